package eventstore

import (
	"reflect"
	"strings"
	"testing"
)

// A field that is added, renamed or retyped anywhere in the state makes older snapshots useless by itself.
func TestFingerprintCoversTheWholeState(t *testing.T) {
	t.Parallel()
	shape := shapeOf(reflect.TypeFor[tenantState](), map[reflect.Type]bool{})
	for _, field := range []string{"{answers ", "{fingerprint  string}", "{licenses ", "{Seats  int}", "{fence  uint64}", "{RetryAfterSeconds  int}"} {
		if !strings.Contains(shape, field) {
			t.Errorf("the shape of the state does not tell %s:\n%s", field, shape)
		}
	}
}
