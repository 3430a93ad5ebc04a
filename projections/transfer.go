package projections

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
)

// transferFields is what the row of a license, and read.history, tell of where it goes, went, or came from: by these names, null where
// there is nothing to tell.
type transferFields struct {
	State       domain.TransferState `json:"transfer"`
	ID          domain.TransferID    `json:"transfer_id"`
	To          domain.TenantID      `json:"transfer_to"`
	License     domain.LicenseID     `json:"transfer_license"`
	At          time.Time            `json:"transfer_at"`
	Leases      int                  `json:"transfer_leases"`
	OldKeyUntil *time.Time           `json:"transfer_old_key_until"`
	ReceivedBy  domain.TransferID    `json:"received_by"`
}

// stays are the fields of a license that goes nowhere.
var stays = fields{
	"transfer": nil, "transfer_id": nil, "transfer_to": nil, "transfer_license": nil, "transfer_at": nil, "transfer_leases": nil, "transfer_old_key_until": nil,
}

// transferOf returns which of the fields an event changes; nil: none.
func transferOf(event *eventstore.Event) fields {
	switch e := event.Data.(type) {
	case *domain.LicenseIssued:
		if e.Transfer != "" {
			return fields{"received_by": e.Transfer}
		}
	case *domain.LicenseTransferStarted:
		changed := maps.Clone(stays)
		maps.Copy(changed, fields{
			"transfer": domain.TransferDraining, "transfer_id": e.Transfer, "transfer_to": e.To, "transfer_license": e.As, "transfer_at": event.Time, "transfer_leases": 0,
		})
		return changed
	case *domain.LicenseTransferCancelled:
		return stays
	case *domain.LicenseRevoked:
		if e.TransferredTo == "" {
			return stays
		}
		return fields{"transfer": domain.TransferGone, "transfer_at": event.Time, "transfer_leases": e.Kept, "transfer_old_key_until": present(e.OldKeyUntil)}
	case *domain.LicenseTransferCompleted:
		return fields{"transfer": domain.TransferCompleted, "transfer_at": event.Time}
	}
	return nil
}

// transferState is all of the fields of a license.
func transferState(l domain.LicenseInfo) fields {
	all := maps.Clone(stays)
	if l.ReceivedBy != "" {
		all["received_by"] = l.ReceivedBy
	}
	if t := l.Transfer; t != nil {
		maps.Copy(all, fields{
			"transfer": t.State, "transfer_id": t.ID, "transfer_to": t.To, "transfer_license": t.As, "transfer_at": t.At, "transfer_leases": t.Kept,
			"transfer_old_key_until": present(t.OldKeyUntil),
		})
	}
	return all
}

// ShowTransfer sets what the API shows of where a license goes, went, or came from.
func ShowTransfer(l *api.License, of domain.LicenseInfo) {
	if of.ReceivedBy != "" {
		l.ReceivedBy = new(string(of.ReceivedBy))
	}
	if t := of.Transfer; t != nil {
		l.Transfer = &api.Transfer{
			Id: string(t.ID), To: string(t.To), License: string(t.As), State: api.TransferState(t.State), At: t.At, Leases: t.Kept, OldKeyUntil: present(t.OldKeyUntil),
		}
	}
}

// showTransferRow is ShowTransfer for the fields of a row.
func showTransferRow(l *api.License, row []byte) error {
	var f transferFields
	if err := json.Unmarshal(row, &f); err != nil {
		return err
	}
	of := domain.LicenseInfo{ReceivedBy: f.ReceivedBy}
	if f.State != "" {
		of.Transfer = &domain.Transfer{ID: f.ID, To: f.To, As: f.License, State: f.State, At: f.At, Kept: f.Leases}
		if f.OldKeyUntil != nil {
			of.Transfer.OldKeyUntil = *f.OldKeyUntil
		}
	}
	ShowTransfer(l, of)
	return nil
}
