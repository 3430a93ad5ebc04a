package projections

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// tables says in which schema the rows of a version of the read models are, while it is not the running one. The SQL of
// projections names the running one's.
type tables struct {
	schema string
	names  *regexp.Regexp // read.x, of every x in schema
	known  sync.Map       // by the statement: what it becomes
}

func tablesIn(schema string, names []string) *tables {
	return &tables{schema: schema, names: regexp.MustCompile(`\bread\.(` + strings.Join(names, "|") + `)\b`)}
}

// writesRunning is a statement that writes to a table of the running version.
var writesRunning = regexp.MustCompile(`(?i)\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE)\s+(TABLE\s+)?(ONLY\s+)?read\.`)

// retarget makes a projection's statement one on these tables. Errors: it writes to a table that is not one of them.
func (t *tables) retarget(statement string) (string, error) {
	becomes := t.sql(statement)
	if t != nil && writesRunning.MatchString(becomes) {
		return "", fmt.Errorf("not a table of a projection that is being rebuilt (see Projection): %s", becomes)
	}
	return becomes, nil
}

// sql returns a statement on these tables. Of nil it is the same.
func (t *tables) sql(statement string) string {
	if t == nil {
		return statement
	}
	if known, ok := t.known.Load(statement); ok {
		return known.(string)
	}
	becomes := t.names.ReplaceAllString(statement, t.schema+".$1")
	t.known.Store(statement, becomes)
	return becomes
}
