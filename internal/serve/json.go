package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// BodyMax is the largest request body, in bytes.
const BodyMax = 1 << 20

// ReadBody returns the body of a request. Errors: *Problem 413 body_too_large, 415 unsupported_media_type when it is
// not JSON.
func ReadBody(r *http.Request) ([]byte, error) {
	// A body without a content type is taken for JSON; so is curl's default for -d, because what else could it be.
	if ct := r.Header.Get("Content-Type"); ct != "" {
		media, _, err := mime.ParseMediaType(ct)
		if err != nil || (media != "application/json" && media != "application/x-www-form-urlencoded") {
			return nil, NewProblem(http.StatusUnsupportedMediaType, "unsupported_media_type", "The body must be JSON",
				fmt.Sprintf("Send Content-Type: application/json, not %q.", ct))
		}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, BodyMax+1))
	if err != nil {
		return nil, Invalid("", "The body could not be read to its end.")
	}
	if len(body) > BodyMax {
		return nil, NewProblem(http.StatusRequestEntityTooLarge, "body_too_large", "The body is too large",
			fmt.Sprintf("A body is at most %d bytes.", BodyMax))
	}
	return body, nil
}

// Decode reads body into v, a pointer to a struct. It is strict: unknown fields, fields named twice, null, wrong types,
// invalid UTF-8, a missing required field and anything behind the object are refused.
//
// Errors: *Problem 400 invalid_request naming the field.
func Decode(body []byte, v any, required ...string) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return Invalid("", "The body is empty; a JSON object is expected.")
	}
	if body := bytes.TrimLeft(body, " \t\r\n"); body[0] != '{' {
		return Invalid("", "The body must be a JSON object.")
	}
	err := json.Unmarshal(body, v, json.RejectUnknownMembers(true))
	if err == nil {
		return checkMembers(body, required)
	}
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		field := fieldOf(semantic.JSONPointer)
		if errors.Is(err, json.ErrUnknownName) {
			return Invalid(field, fmt.Sprintf("There is no field %q.", field))
		}
		return Invalid(field, fmt.Sprintf("The field %q must be %s, not %s.", field, typeName(semantic.GoType), kindName(semantic.JSONKind)))
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		field := fieldOf(syntactic.JSONPointer)
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return Invalid(field, fmt.Sprintf("The field %q is there twice.", field))
		}
		return Invalid(field, fmt.Sprintf("The body is not valid JSON (at byte %d).", syntactic.ByteOffset))
	}
	return Invalid("", "The body is not valid JSON.")
}

// checkMembers refuses what Unmarshal lets pass: null, which it reads as zero, and a member that is not there.
func checkMembers(body []byte, required []string) error {
	if len(required) == 0 && !bytes.Contains(body, []byte("null")) {
		return nil
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(body, &members); err != nil {
		return err // impossible: it was read before
	}
	for _, field := range required {
		if _, ok := members[field]; !ok {
			return Invalid(field, fmt.Sprintf("The field %q is missing.", field))
		}
	}
	for field, value := range members {
		if value.Kind() == 'n' {
			return Invalid(field, fmt.Sprintf("The field %q must not be null; leave it out instead.", field))
		}
	}
	return nil
}

// fieldOf turns a JSON pointer such as /leases/3 into leases[3].
func fieldOf(pointer jsontext.Pointer) string {
	var field strings.Builder
	for token := range pointer.Tokens() {
		switch {
		case token != "" && strings.Trim(token, "0123456789") == "":
			field.WriteString("[" + token + "]")
		case field.Len() > 0:
			field.WriteString("." + token)
		default:
			field.WriteString(token)
		}
	}
	return field.String()
}

func typeName(t reflect.Type) string {
	if t == nil {
		return "something else"
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		return "a whole number"
	case reflect.Slice:
		return "an array"
	case reflect.Bool:
		return "true or false"
	}
	return "an object"
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	case '"':
		return "this string"
	case '0':
		return "this number"
	case '[':
		return "an array"
	case '{':
		return "an object"
	}
	return "what it is"
}

// Reply answers with v as JSON.
func Reply(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode reply: %w", err)
	}
	return ReplyEncoded(w, status, body)
}

// ReplyEncoded answers with JSON that is encoded already.
func ReplyEncoded(w http.ResponseWriter, status int, body []byte) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body)
	return nil
}
