package api_test

import (
	"bufio"
	"bytes"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/commandapi"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/queryapi"
)

// The document and the program describe the same calls: none is missing on either side, GET is always a query, and each
// needs the permission that the document declares, which its handler checks, and counts against the budget that it declares.
func TestRoutesAreTheDocuments(t *testing.T) {
	t.Parallel()
	served := func(add func(*mux.Router)) []string {
		router := mux.NewRouter()
		add(router)
		var calls []string
		err := router.Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
			path, err := route.GetPathTemplate()
			if err != nil {
				return err
			}
			guarded, ok := route.GetHandler().(access.Guarded)
			if !ok {
				t.Errorf("%s checks no permission", path)
			}
			methods, err := route.GetMethods()
			for _, method := range methods {
				calls = append(calls, method+" "+path+" "+string(guarded.Permission)+" "+string(guarded.Budget))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return calls
	}
	secret := identity.Secret(bytes.Repeat([]byte{1}, 32))
	commands := served(commandapi.New(nil, secret, identity.OperatorKey{}, prometheus.NewRegistry()).Routes)
	queries := served(queryapi.New(queryapi.Options{Registerer: prometheus.NewRegistry()}).Routes)
	for _, call := range commands {
		if strings.HasPrefix(call, http.MethodGet) {
			t.Errorf("%s is answered by the command side", call)
		}
	}
	for _, call := range queries {
		if !strings.HasPrefix(call, http.MethodGet) {
			t.Errorf("%s is answered by the query side", call)
		}
	}

	path, method := regexp.MustCompile(`^  (/api/v1\S*):$`), regexp.MustCompile(`^    (get|post|put|patch|delete):$`)
	permission, budget := regexp.MustCompile(`^      x-permission: (\S+)$`), regexp.MustCompile(`^      x-budget: (\S+)$`)
	var documented []string
	var at string
	limited := 0
	for lines := bufio.NewScanner(bytes.NewReader(api.Document)); lines.Scan(); {
		if m := path.FindStringSubmatch(lines.Text()); m != nil {
			at = m[1]
		} else if m := method.FindStringSubmatch(lines.Text()); m != nil {
			documented = append(documented, strings.ToUpper(m[1])+" "+at)
		} else if m := permission.FindStringSubmatch(lines.Text()); m != nil {
			documented[len(documented)-1] += " " + m[1]
			if !access.Permission(m[1]).Known() {
				t.Errorf("%s: there is no such permission", documented[len(documented)-1])
			}
		} else if m := budget.FindStringSubmatch(lines.Text()); m != nil {
			documented[len(documented)-1] += " " + m[1]
		} else if strings.HasPrefix(lines.Text(), `        "429": {$ref:`) {
			limited++
		}
	}
	all := slices.Sorted(slices.Values(append(commands, queries...)))
	slices.Sort(documented)
	if !slices.Equal(all, documented) {
		t.Errorf("served:\n%s\ndocumented:\n%s", strings.Join(all, "\n"), strings.Join(documented, "\n"))
	}
	if limited != len(documented) {
		t.Errorf("%d of %d calls say that they may be rate_limited", limited, len(documented))
	}
}
