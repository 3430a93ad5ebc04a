// Package audit lets somebody who trusts nobody check a tenant's history: it writes exports, verifies them without a network,
// and reads a tenant's events from the journal itself.
//
// Guarantees: a file that Verify accepts holds exactly the events that its end line counts, as they were stored, in order,
// none left out between the first and the last; and they obey the rules of the domain, so no seat was oversold. What a
// chain alone cannot prove: that the whole history was not written anew, or cut at its end. A head from elsewhere does;
// see Options.Head.
package audit
