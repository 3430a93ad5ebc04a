package domain

// StaffRead records that the vendor's staff read what belongs to the tenant, before it was shown. It changes nothing.
type StaffRead struct {
	Permission string `json:"permission"` // of what was read, such as "license.read"
	Reason     string `json:"reason"`
}

func (*StaffRead) EventType() string { return "ai.coditect.staff.read.v1" }

func (*StaffRead) EventSubject() string { return "" }

// RecordStaffRead records what staff is about to read: of one tenant, or, on Staff, of all.
//
// Refused: tenant_not_found.
type RecordStaffRead struct{ Permission, Reason string }

// Decide implements Command.
func (c RecordStaffRead) Decide(t *Tenant, _ Moment) ([]Event, error) {
	if t.ID != Staff {
		if err := t.mustExist(); err != nil {
			return nil, err
		}
	}
	return []Event{&StaffRead{Permission: c.Permission, Reason: c.Reason}}, nil
}

// Answer implements Command.
func (c RecordStaffRead) Answer(*Tenant, []Event) Answer { return Answer{} }
