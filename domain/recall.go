package domain

// Recall rebuilds the answer of a command from the events it left, right after they were applied to t: what Answer said
// then, or the rejection. So a repeated command gets the recorded answer even after a restart. It returns false for
// commands whose answer is read from the present state again: HeartbeatSeats and ReleaseSeats, which repeat harmlessly.
func Recall(t *Tenant, events []Event) (Answer, *Rejection, bool) {
	switch e := events[len(events)-1].(type) {
	case *TenantCreated:
		return tenantAnswer(t, true), nil, true
	case *TenantRenamed, *TenantSuspended, *TenantReinstated:
		return tenantAnswer(t, false), nil, true
	case *LicenseIssued:
		return licenseAnswer(t, e.License, true), nil, true
	case *LicenseResized:
		return licenseAnswer(t, e.License, false), nil, true
	case *PolicyChanged:
		return licenseAnswer(t, e.License, false), nil, true
	case *LicenseRenewed:
		return licenseAnswer(t, e.License, false), nil, true
	case *TrialConverted:
		return licenseAnswer(t, e.License, false), nil, true
	case *LicenseKeyRotated:
		return licenseAnswer(t, e.License, true), nil, true
	case *LicenseSuspended:
		return licenseAnswer(t, e.License, false), nil, true
	case *LicenseReinstated:
		return licenseAnswer(t, e.License, false), nil, true
	case *LicenseTransferStarted:
		return licenseAnswer(t, e.License, false), nil, true
	case *LicenseTransferCancelled:
		return licenseAnswer(t, e.License, false), nil, true
	case *LicenseTransferCompleted:
		return licenseAnswer(t, e.License, false), nil, true
	case *LicenseRevoked:
		return licenseAnswer(t, e.License, false), nil, true
	case *MemberInvited:
		return memberAnswer(t, e.User, true), nil, true
	case *MemberRoleChanged:
		return memberAnswer(t, e.User, false), nil, true
	case *MemberRemoved:
		return memberAnswer(t, e.User, false), nil, true
	case *TenantKeyCreated:
		return keyAnswer(t, e.Key.ID, true), nil, true
	case *TenantKeyRotated:
		return keyAnswer(t, e.Key.ID, true), nil, true
	case *TenantKeyRevoked:
		return keyAnswer(t, e.Key, false), nil, true
	case *SeatAcquired:
		l := t.licenses[e.License]
		n, _ := l.leases.find(e.Lease)
		return acquireAnswer(l, n, true), nil, true
	case *SeatBorrowed:
		l := t.licenses[e.License]
		n, _ := l.leases.find(e.Lease)
		return acquireAnswer(l, n, false), nil, true
	case *PersonForgotten:
		return Answer{Forgotten: e.Pseudonym}, nil, true
	case *StaffRead:
		return Answer{}, nil, true
	case *SeatQueued:
		return Answer{Queued: true}, nil, true
	case *SeatDenied:
		return Answer{}, e.rejection(), true
	}
	return Answer{}, nil, false
}
