package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/identity"
)

// fill makes tenants, licenses and leases through the Writers: over HTTP a million would take minutes. What is there
// already stays as it is.
func fill(ctx context.Context, writers *eventstore.Writers, keys *identity.Keys, fills serverConfig) error {
	do := func(tenant domain.TenantID, prepare func(eventstore.Scope) (domain.Command, error)) error {
		_, err := writers.Execute(ctx, eventstore.Request{Tenant: tenant, Actor: "bench", Prepare: prepare})
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2000) // as many commands as fill commits well
	for i := range fills.Tenants {
		g.Go(func() error {
			tenant := domain.TenantID(tenantID(i))
			there := false
			err := do(tenant, func(s eventstore.Scope) (domain.Command, error) {
				there = s.Tenant.Exists()
				if there {
					return domain.RenameTenant{Name: s.Tenant.Name}, nil
				}
				return domain.CreateTenant{Tenant: tenant, Name: "Corp"}, nil
			})
			for l := range fills.Licenses {
				if err != nil || there {
					return err
				}
				err = do(tenant, func(eventstore.Scope) (domain.Command, error) {
					return domain.IssueLicense{
						License: domain.LicenseID(licenseID(i, l)), Product: "cad", Seats: fills.Seats, Policy: domain.Policy{LeaseSeconds: 3600},
						Key: keys.Stored(tenant, domain.KeyID(keyID(i, l))),
					}, nil
				})
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	g, ctx = errgroup.WithContext(context.WithoutCancel(ctx))
	g.SetLimit(2000)
	for i := range fills.Tenants {
		for l := range fills.Licenses {
			for n := range fills.Leases {
				g.Go(func() error {
					return do(domain.TenantID(tenantID(i)), func(s eventstore.Scope) (domain.Command, error) {
						user := holderName(i, l, n)
						return domain.AcquireSeat{
							License: domain.LicenseID(licenseID(i, l)), Lease: domain.LeaseID(leaseID(i, l, n)),
							Holder: domain.Holder{
								User:    s.Pseudonym(eventstore.UserName, user),
								Machine: s.Pseudonym(eventstore.MachineName, "ws-"+user),
							},
						}, nil
					})
				})
			}
		}
	}
	return g.Wait()
}

func holderName(tenant, license, n int) string {
	return fmt.Sprintf("user%d.%d.%d", tenant, license, n)
}

// leaseID is that of the n-th lease that a license is filled with; as long as any.
func leaseID(tenant, license, n int) string {
	return fmt.Sprintf("lse_%05d%04d%07d", tenant, license, n)
}
