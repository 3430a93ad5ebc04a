package access

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

var update = flag.Bool("update", false, "rewrite the table of docs/ACCESS.md")

// The table in the docs is the table in the code.
func TestMatrix(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../../docs/ACCESS.md", "<!-- matrix: from internal/access -->\n", "<!-- end -->"
	var matrix strings.Builder
	matrix.WriteString("| permission | opens |")
	for _, role := range Roles {
		fmt.Fprintf(&matrix, " %s |", role)
	}
	matrix.WriteString("\n|---|---|" + strings.Repeat(":-:|", len(Roles)) + "\n")
	for _, row := range Table {
		fmt.Fprintf(&matrix, "| `%s` | %s |", row.Permission, row.Opens)
		for _, role := range Roles {
			mark := " "
			if role.May(row.Permission) {
				mark = " ✓ "
			}
			matrix.WriteString(mark + "|")
		}
		matrix.WriteString("\n")
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(doc), begin)
	_, after, found2 := strings.Cut(rest, end)
	if !found || !found2 {
		t.Fatalf("%s has no place for the table", file)
	}
	want := before + begin + matrix.String() + end + after
	if want == string(doc) {
		return
	}
	if !*update {
		t.Fatalf("the table of docs/ACCESS.md is not that of the code; run this test with -update\n%s", matrix.String())
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, row := range Table {
		for _, role := range Roles {
			has := role == Operator || slices.Contains(row.Roles, role)
			own, other := Caller{Role: role, Tenant: "acme"}, domain.TenantID("globex")
			if role == Operator {
				own.Tenant = ""
			}
			allowed(t, own.Check(row.Permission, "acme"), has, role, row.Permission, "own")
			allowed(t, own.Check(row.Permission, other), role == Operator, role, row.Permission, "another's")
			allowed(t, own.Check(row.Permission, ""), role == Operator, role, row.Permission, "no tenant's")
		}
		allowed(t, Caller{}.Check(row.Permission, ""), false, "nobody", row.Permission, "no tenant's")
		allowed(t, Caller{Tenant: "acme"}.Check(row.Permission, "acme"), false, "no role", row.Permission, "own")
	}
	// What is not in the table nobody may do, not even the operator.
	allowed(t, Caller{Role: Operator}.Check("tenant.eat", "acme"), false, Operator, "tenant.eat", "")
	allowed(t, Caller{Role: Operator}.Check(LicenseKey, "acme"), false, Operator, LicenseKey, "")
}

func allowed(t *testing.T, err error, want bool, role Role, p Permission, what string) {
	t.Helper()
	if (err == nil) != want {
		t.Errorf("%s, %s of %s path: %v", role, p, what, err)
	}
	var problem *serve.Problem
	if err != nil && (!errors.As(err, &problem) || problem.Status != http.StatusForbidden) {
		t.Errorf("%s, %s: %v is no 403", role, p, err)
	}
}
