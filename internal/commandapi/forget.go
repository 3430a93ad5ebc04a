package commandapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// eraseWithin is how long an answer waits for a deleted name to be overwritten. After it that goes on by itself.
const eraseWithin = 3 * time.Second

func (a *API) forgetPerson(w http.ResponseWriter, r *http.Request) error {
	c, err := a.managementCall(r, "forget_person")
	if err != nil {
		return err
	}
	var req api.ForgetRequest
	if err := serve.Decode(c.body, &req); err != nil {
		return err
	}
	var kind eventstore.NameKind
	var text string
	given := 0
	for of, name := range map[eventstore.NameKind]*string{
		eventstore.UserName: req.User, eventstore.MachineName: req.Machine, eventstore.ProcessName: req.Process,
	} {
		if name != nil {
			kind, text = of, *name
			given++
		}
	}
	if given != 1 {
		return serve.Invalid("user", `Send one of "user", "machine" and "process".`)
	}
	reason := ""
	if req.Reason != nil {
		reason = *req.Reason
	}
	if err := firstError(checkText(string(kind), text, 1, nameMax), checkText("reason", reason, 0, reasonMax)); err != nil {
		return err
	}
	if strings.Contains(strings.ToLower(reason), strings.ToLower(text)) {
		return serve.Invalid("reason", `The field "reason" is recorded for good, so it must not hold the name that is to be forgotten.`)
	}
	result, err := a.executeManaged(w, c, func(s eventstore.Scope) (domain.Command, error) {
		return domain.ForgetPerson{Pseudonym: s.Known(kind, text), Kind: string(kind), Reason: reason}, nil
	})
	if err != nil || c.dryRun {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), eraseWithin)
	defer cancel()
	reply := api.ForgetResponse{Erased: a.ledger.AwaitErased(ctx, c.tenant) == nil}
	if p := string(result.Answer.Forgotten); p != "" {
		reply.Pseudonym = &p
	}
	return serve.Reply(w, http.StatusOK, reply)
}
