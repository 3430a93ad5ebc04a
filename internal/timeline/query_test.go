package timeline_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coditect-ai/license-ledger/internal/timeline"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                   "",
		" \t\r\n ":                           "",
		"type:seat.denied":                   "1 type=ai.coditect.seat.denied.v1",
		"-type:seat.*":                       "1 -type=ai.coditect.seat.*",
		"type:ai.coditect.license.issued.v1": "1 type=ai.coditect.license.issued.v1",
		"  actor:key:k1  license:lic_x ":     "3 actor=key:k1, 17 license=lic_x",
		"actor:op*":                          "1 actor=op*",
		`user:"Ada \"L\" \\ x"`:              `1 user=Ada "L" \ x`,
		`user:a"b -lease:lse_1`:              `1 user=a"b, 10 -lease=lse_1`,
		`machine:ws-1 -feature:"5 axes"`:     `1 machine=ws-1, 14 -feature=5 axes`,
		"user:-x":                            "1 user=-x",
		"before:2026-01-01":                  "1 before=2026-01-01T00:00:00Z",
		"after:2026-01-01T10:00:00+02:00 before:2027-01-01": "1 after=2026-01-01T08:00:00Z, 33 before=2027-01-01T00:00:00Z",
		"user:Zoë user:Œ": "1 user=Zoë, 10 user=Œ",
	} {
		terms, err := timeline.Parse(text, timeline.Keys)
		var shown []string
		for _, term := range terms {
			shown = append(shown, show(term))
		}
		if got := strings.Join(shown, ", "); err != nil || got != want {
			t.Errorf("%q is %q, %v; not %q", text, got, err, want)
		}
	}
}

func show(t timeline.Term) string {
	value, minus := t.Value, ""
	if !t.Time.IsZero() {
		value = t.Time.Format(time.RFC3339)
	}
	if t.Family {
		value += "*"
	}
	if t.Not {
		minus = "-"
	}
	return fmt.Sprintf("%d %s%s=%s", t.At, minus, t.Key, value)
}

func TestParseSaysWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"ada":                               "at character 1: a word alone",
		"user:ada denied":                   "at character 10: a word alone",
		"-":                                 "at character 1: a word alone",
		`"type:x"`:                          "at character 1: a word alone",
		":x":                                `at character 1: there is no ":"`,
		"tpye:seat.denied":                  `at character 1: there is no "tpye:"; there are type:, actor:, license:, lease:, user:, machine:, feature:, before:, after:.`,
		"tenant:acme":                       `at character 1: there is no "tenant:"`,
		"user:":                             "at character 6: a value is missing",
		"user: ada":                         "at character 6: a value is missing",
		`user:""`:                           "at character 6: there is nothing between the quotes",
		`user:"ada`:                         "at character 6: the quote is not closed",
		`user:"ada\`:                        "at character 6: the quote is not closed",
		`user:"ada"x`:                       "at character 11: a space is missing",
		"type:seat":                         `at character 1: "seat" is no type; write for example type:seat.denied`,
		"type:*":                            `at character 1: "*" is no type`,
		"type:seat.denied' OR '1":           `at character 1: "seat.denied'" is no type`,
		"user:a type:seat.denyed":           `at character 8: there is no type "seat.denyed"; type:seat.* finds`,
		"type:seat.denied.v2":               `at character 1: "seat.denied.v2" is no type`,
		"before:yesterday":                  `at character 1: "yesterday" is no time; write 2026-03-01`,
		"after:2026-02-30":                  "at character 1:",
		"-after:2026-01-01":                 "at character 1: after: has no minus",
		"after:2026-01-01 after:2026-01-02": "at character 18: after: is there twice",
		strings.Repeat("user:a ", 21):       "at character 141: a query has at most 20 terms",
		strings.Repeat(" ", 1001):           "at character 1001: a query has at most 1000 characters",
	} {
		_, err := timeline.Parse(text, timeline.Keys)
		var wrong *timeline.Error
		if !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, not %s", text, err, want)
		}
	}
	if _, err := timeline.Parse("tenant:acme", timeline.AuditKeys); err != nil {
		t.Error(err)
	}
}

func TestALinkIsAQuery(t *testing.T) {
	t.Parallel()
	if got, want := timeline.Link("acme", "type", "seat.denied", "license", "", "user", "Ada L."), "/api/v1/tenants/acme/timeline?q=type%3Aseat.denied+user%3A%22Ada+L.%22"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
	if got, want := timeline.Link("acme"), "/api/v1/tenants/acme/timeline"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"type:seat.denied -user:\"a b\"", "before:2026-01-01", "actor:x*", `user:"\`, "-", "a:b:c"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		terms, err := timeline.Parse(text, timeline.AuditKeys)
		var wrong *timeline.Error
		if err != nil {
			if !errors.As(err, &wrong) || wrong.At < 1 || wrong.At > utf8.RuneCountInString(text)+1 || wrong.Detail == "" {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		at := 0
		for _, term := range terms {
			if term.At <= at || term.Key == "" || term.Value == "" && !term.Family {
				t.Fatalf("%q: %+v", text, terms)
			}
			at = term.At
		}
		// Whatever a user is called, a link to it finds it.
		if text == "" || !utf8.ValidString(text) || utf8.RuneCountInString(text) > 400 {
			return
		}
		_, q, _ := strings.Cut(timeline.Link("acme", "user", text), "?q=")
		q, err = url.QueryUnescape(q)
		if err != nil {
			t.Fatal(err)
		}
		terms, err = timeline.Parse(q, timeline.Keys)
		if err != nil || len(terms) != 1 || terms[0].Value != text {
			t.Fatalf("%q as %q: %+v, %v", text, q, terms, err)
		}
	})
}
