package clients

import (
	"path/filepath"
	"regexp"
	"testing"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// A tenant's people and their keys, from the command line.
func TestPeopleAndKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, l := ledgertest.Up(t, filepath.Join(dir, "data"))
	s := &shell{t: t, dir: dir, env: []string{"LEDGER_SERVER=" + l.Commands, "TZ=UTC"}}
	s.prints("tenant create acme Acme", "acme")
	s.prints("member list acme", "No such members", "ledger member invite acme")
	s.prints("key list acme", "No such keys", "ledger key create acme")

	s.prints("member invite acme ada --role admin --dry-run", "WOULD APPEND", "ai.coditect.member.invited.v1")
	s.prints("member invite acme ada --role admin", "MEMBER", "u_", "ada", "admin", "member")
	s.fails("member invite acme ada --role auditor", "member_exists", "ledger member change")
	s.fails("member invite acme bob --role king", "--role")
	s.fails("member invite acme bob", "--role")
	s.prints("member list acme", "MEMBER", "USER", "ROLE", "STATUS", "ada", "admin")
	s.prints("member list acme --json", `"user": "ada"`)

	key := regexp.MustCompile(`tk_acme_(\w{12})_\w+`).FindStringSubmatch(s.prints("key create acme laptop --member ada", "role admin", "shown this once", "tk_acme_"))
	if key == nil {
		t.Fatal("no key")
	}
	s.fails("key create acme laptop --member eve", "acme has no member", "ledger member list acme")
	s.fails("key create acme laptop", "--role")
	s.prints("key create acme first --role owner", "role owner", "tk_acme_")
	s.prints("key list acme", "KEY", "NAME", "ROLE", "first", "owner", "active", key[1], "laptop", "admin")
	s.prints("key list acme --status revoked", "No such keys")

	// Its own people use the same commands with their key, and are told what they may not.
	ada := &shell{t: t, dir: dir, env: append(s.env, "LEDGER_OPERATOR_KEY="+key[0])}
	ada.prints("key list acme", key[1])
	ada.fails("key create acme mine --role owner", "forbidden")

	s.prints("key rotate acme "+key[1]+" --overlap 1h --dry-run", "ai.coditect.key.rotated.v1")
	s.prints("key rotate acme "+key[1]+" --overlap 1h", "works for another 1h0m0s", "tk_acme_")
	s.fails("key rotate acme "+key[1], "key_over", "ledger key create")
	s.prints("key list acme --status replaced", key[1], "replaced")
	s.prints("key revoke acme "+key[1]+" --reason lost", key[1], "revoked")
	s.fails("key revoke acme nosuchkey", "key_not_found", "ledger key list")
	owner := regexp.MustCompile(`(\w{12}) +first`).FindStringSubmatch(s.prints("key list acme"))
	if owner == nil {
		t.Fatal("the owner's key is not listed")
	}
	s.fails("key revoke acme "+owner[1], "last_owner_key", "--role owner")

	s.prints("member change acme ada --role auditor", "ada", "auditor")
	s.prints("member remove acme ada --reason left --dry-run", "ai.coditect.member.removed.v1")
	s.prints("member remove acme ada --reason left", "ada", "removed")
	s.fails("member change acme bob --role admin", "acme has no member", "ledger member list acme")
	s.fails("member remove acme u_nobody", "member_not_found", "ledger member list")
}
