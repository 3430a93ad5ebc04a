package domain

// PersonForgotten records that the clear text behind a pseudonym was deleted. What is known under the pseudonym stays, and so do its
// leases; the same person coming back is another pseudonym.
type PersonForgotten struct {
	Pseudonym Pseudonym `json:"pseudonym"`
	Kind      string    `json:"kind"` // what it stood for: user, machine or process
	Reason    string    `json:"reason,omitempty"`
}

// EventType implements Event.
func (*PersonForgotten) EventType() string { return "ai.coditect.person.forgotten.v1" }

// EventSubject implements Event.
func (e *PersonForgotten) EventSubject() string { return string(e.Pseudonym) }

// ForgetPerson deletes the clear text behind a pseudonym. One whose lease is on its way from a tenant to another is not forgotten
// before that has arrived: meanwhile either tenant has to know that its leases are of one person, and the name is about to be handed over.
//
// Refused, the first that applies: tenant_not_found, license_arriving.
type ForgetPerson struct {
	Pseudonym Pseudonym // empty: the directory knows nobody of that name, so nothing is left
	Kind      string
	Reason    string
}

// Decide implements Command.
func (c ForgetPerson) Decide(t *Tenant, _ Moment) ([]Event, error) {
	if err := t.mustExist(); err != nil || c.Pseudonym == "" {
		return nil, err
	}
	if t.onTheMove(c.Pseudonym) {
		return nil, rejectf(LicenseArriving, "A lease of this person is just going to another tenant, or coming from one; try again in a moment.")
	}
	return []Event{&PersonForgotten{Pseudonym: c.Pseudonym, Kind: c.Kind, Reason: c.Reason}}, nil
}

// Answer implements Command.
func (c ForgetPerson) Answer(*Tenant, []Event) Answer { return Answer{Forgotten: c.Pseudonym} }
