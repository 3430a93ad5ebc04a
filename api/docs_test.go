package api_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/gorilla/mux"

	"github.com/coditect-ai/license-ledger/api"
)

func all(text, pattern string) map[string]int {
	found := map[string]int{}
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found[match[1]]++
	}
	return found
}

// The page is whole, and needs nothing but itself.
func TestDocsPage(t *testing.T) {
	t.Parallel()
	router := mux.NewRouter()
	api.Routes(router)
	answer := httptest.NewRecorder()
	router.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/api/docs", nil))
	page, document := answer.Body.String(), string(api.Document)
	if answer.Code != http.StatusOK || answer.Header().Get("Content-Type") != "text/html; charset=utf-8" || len(page) > 1<<20 {
		t.Fatalf("%d %v, %d bytes", answer.Code, answer.Header(), len(page))
	}

	ids := all(page, ` id="([^"]*)"`)
	for id, n := range ids {
		if n > 1 {
			t.Errorf("the id %s is there %d times", id, n)
		}
	}
	for link := range all(page, ` href="([^"]*)"`) {
		if name, within := strings.CutPrefix(link, "#"); within && ids[name] == 0 || !within && link != "/" && link != "/api/openapi.yaml" {
			t.Errorf("a link leads to %s", link)
		}
	}
	for operation := range all(document, `operationId: (\w+)`) {
		if ids[operation] == 0 {
			t.Errorf("the call %s is missing", operation)
		}
	}
	_, schemas, _ := strings.Cut(document, "\n  schemas:\n")
	for schema := range all(schemas, `(?m)^    (\w+):`) {
		if ids["schema-"+schema] == 0 {
			t.Errorf("the schema %s is missing", schema)
		}
	}
	for permission := range all(document, `x-permission: (\S+)`) {
		if !strings.Contains(page, "<code>"+permission+"</code>") {
			t.Errorf("the permission %s is missing", permission)
		}
	}
	for name := range all(document, `\{name: ([\w-]+), in: query`) {
		if !strings.Contains(page, "<code>"+name+"</code> <span class=\"in\">query</span>") {
			t.Errorf("the parameter %s is missing", name)
		}
	}

	if found := regexp.MustCompile(`(?i)<script|<link|<img|<iframe|\son\w+=|style="|url\(|@import|https?://`).FindString(page); found != "" {
		t.Errorf("the page has %q", found)
	}
	_, style, _ := strings.Cut(page, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	policy := answer.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"';") {
		t.Errorf("the policy %s refuses the page its style", policy)
	}
}
