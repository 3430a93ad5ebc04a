package api

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of docs/POLICIES.md")

// The table of rules in docs/POLICIES.md says what the schema says: names, ranges and defaults of what a license can be
// issued with, and what each means once it is.
func TestPolicyTableIsTheSchema(t *testing.T) {
	document, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	schema := func(name string) map[string]string {
		body := regexp.MustCompile(`(?m)^    ` + name + `:\n((?:      .*\n)+)`).FindSubmatch(document)
		if body == nil {
			t.Fatalf("the document has no schema %s", name)
		}
		all := map[string]string{}
		for _, m := range regexp.MustCompile(`(?m)^        (\w+): \{(.*)\}$`).FindAllStringSubmatch(string(body[1]), -1) {
			all[m[1]] = m[2]
		}
		return all
	}
	value := func(text, key string) string {
		m := regexp.MustCompile(key + `: ("(?:[^"\\]|\\.)*"|[^,}]+)`).FindStringSubmatch(text)
		if m == nil {
			return ""
		}
		return strings.Trim(m[1], `"`)
	}
	request, license := schema("IssueLicenseRequest"), schema("License")
	var table strings.Builder
	table.WriteString("| rule | values | default | meaning |\n|---|---|---|---|\n")
	for _, name := range []string{
		"seats", "seat_per", "lease_seconds", "heartbeat_seconds", "overage", "overage_percent", "revive_seconds", "max_per_user",
		"max_per_machine", "reservations", "borrow_days", "borrow_max", "borrow_low_water", "features", "starts_at", "expires_at", "grace_days", "on_shrink", "trial",
	} {
		text, ok := request[name]
		if !ok {
			t.Fatalf("no license can be issued with %s", name)
		}
		delete(request, name)
		meaning, values, standard := value(license[name], "description"), "", value(text, "default")
		if ref := value(text, `\$ref`); ref != "" && value(text, "type") != "array" {
			of := regexp.MustCompile(`(?m)^    ` + ref[strings.LastIndex(ref, "/")+1:] + `: \{(.*)\}$`).FindSubmatch(document)
			enum := regexp.MustCompile(`enum: \[([^\]]*)\]`).FindSubmatch(of[1])
			words := strings.Split(string(enum[1]), ", ")
			values, standard, meaning = "`"+strings.Join(words, "`, `")+"`", words[0], value(string(of[1]), "description")
		} else if least := value(text, "minimum"); least != "" {
			values = least + " to " + value(text, "maximum")
		} else {
			values = map[string]string{"starts_at": "RFC 3339 time", "expires_at": "RFC 3339 time", "features": "up to 100 names", "reservations": "up to 100, 1000 users in all", "trial": "`true`, `false`"}[name]
		}
		if meaning == "" {
			meaning = map[string]string{"seats": "How many seats there are; 0: nothing can be acquired.", "trial": value(text, "description")}[name]
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", name, values, standard, meaning)
	}
	delete(request, "product")
	if len(request) > 0 {
		t.Errorf("rules that the table does not have: %v", request)
	}
	const page, from, to = "../docs/POLICIES.md", "<!-- rules: from api/openapi.yaml -->\n", "<!-- end -->"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), from)
	was, after, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatal("docs/POLICIES.md has no place for the table")
	}
	if was == table.String() {
		return
	}
	if !*update {
		t.Fatalf("the table of docs/POLICIES.md is not what the schema says; run this test with -update\n%s", table.String())
	}
	if err := os.WriteFile(page, []byte(before+from+table.String()+to+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
