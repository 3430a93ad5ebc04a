// Package client lets a program hold a floating seat of a license.
//
//	ledger, err := client.New(client.Config{Server: "https://ledger.example.com", LicenseKey: key})
//	...
//	lease, err := ledger.Acquire(ctx, client.Holder{}) // this user, this machine, this process
//	if errors.Is(err, client.NoSeatAvailable) {
//		...
//	}
//	defer lease.Close(ctx)
//
//	ctx, cancel := lease.Context(ctx) // ends when the seat is lost
//	defer cancel()
//	return work(ctx)
//
// # What a Lease does
//
// It keeps itself alive on a goroutine of its own. Nothing of the program stands in its way: callbacks and log handlers run
// elsewhere, and however long they block, heartbeats go on. When a heartbeat fails it is sent again, with a growing pause,
// to the next server if there are several; a restart of the server goes unnoticed.
//
// The program hears two things, and can tell them apart:
//
//	AtRisk   heartbeats are not acknowledged; the seat is still held until Status.Until. Go on, perhaps warn.
//	Lost     the seat is gone, and stays gone; the error says why: lease_expired, lease_released, lease_revoked, …
//
// by Lease.Context or Lease.Lost, by the channel Lease.Changes, and by the callback Config.OnChange.
//
// # How long a seat is held
//
// Never longer than the ledger grants: a seat is held until the lease length has passed since the moment the last
// acknowledged acquire or heartbeat was *sent*, whenever its answer came. Lease.Held compares with the clock at each call,
// so it is right even if the whole process was stopped in the meantime.
//
// Time is read from two clocks, and whichever saw more of it counts. The monotonic clock does not care when somebody sets
// the time. But on Linux it is CLOCK_MONOTONIC, which stands still while a laptop sleeps, and so does its like on macOS; the
// wall clock does not stand still. When the wall clock alone says that the lease ended, because the machine slept or the
// time was set, Held says no at once and the ledger is asked: if it renews the lease all is well, else it is lost.
//
// Neither clock sees that a virtual machine was frozen together with them. A program that writes to something shared sends
// Lease.Fence along: it only grows per license, and tells a late holder from the present one.
package client
