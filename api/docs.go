package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed docs.html
var docsTemplate string

//go:embed docs.css
var docsStyle string

// docs returns openapi.yaml as a page for people. It needs nothing but itself: no script, and nothing from elsewhere.
var docs = sync.OnceValue(func() []byte {
	page := template.Must(template.New("docs").Funcs(template.FuncMap{"prose": prose}).Parse(docsTemplate))
	var root yaml.Node
	if err := yaml.Unmarshal(Document, &root); err != nil {
		panic(err) // the document is embedded, and tests read it
	}
	var html bytes.Buffer
	if err := page.Execute(&html, newDocsPage(node{root.Content[0]})); err != nil {
		panic(err)
	}
	return html.Bytes()
})

// docsPolicy lets the page have its own style and nothing else.
func docsPolicy() string {
	sum := sha256.Sum256([]byte(docsStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
}

func serveDocs(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", docsPolicy())
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.Write(docs())
}

// node is a part of the document, in its order. What is not there is a node without anything.
type node struct{ *yaml.Node }

// at returns what stands behind keys, one in the other.
func (n node) at(keys ...string) node {
	for _, key := range keys {
		found := node{}
		for name, value := range n.members() {
			if name == key {
				found = value
			}
		}
		n = found
	}
	return n
}

// members yields the keys of an object and what stands behind them.
func (n node) members() func(yield func(string, node) bool) {
	return func(yield func(string, node) bool) {
		if n.Node == nil || n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i].Value, node{n.Content[i+1]}) {
				return
			}
		}
	}
}

// items returns the items of an array.
func (n node) items() []node {
	if n.Node == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	var all []node
	for _, item := range n.Content {
		all = append(all, node{item})
	}
	return all
}

// text returns a scalar, or a list of them with commas; of what is not there nothing.
func (n node) text() string {
	if n.Node == nil {
		return ""
	}
	if n.Kind == yaml.ScalarNode {
		return n.Value
	}
	var all []string
	for _, item := range n.items() {
		all = append(all, item.text())
	}
	return strings.Join(all, ", ")
}

// resolved follows a $ref within the document.
func (n node) resolved(root node) node {
	if ref := n.at("$ref").text(); ref != "" {
		return root.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	return n
}

// What the template shows.
type (
	docsPage struct {
		Style                                template.CSS
		Title, Version, Summary, Description string
		Tags                                 []docsTag
		Schemas                              []docsSchema
	}
	docsTag struct {
		Name, Description string
		Operations        []docsOperation
	}
	docsOperation struct {
		ID, Method, Path, Summary, Description, Permission, Budget string
		Parameters                                                 []docsField
		Body                                                       []docsContent
		BodyRequired                                               bool
		Responses                                                  []docsResponse
	}
	docsContent struct {
		Media  string
		Schema docsSchema
	}
	docsResponse struct {
		Status, Description string
		Headers             []string
		Content             []docsContent
	}
	// docsField is a parameter or a property.
	docsField struct {
		Name, In, Description string
		Required              bool
		Schema                docsSchema
	}
	docsSchema struct {
		Name        string // of a schema of its own
		Ref         string // name of the schema that it is
		Type        string
		Limits      string
		Description string
		Fields      []docsField
		Items       *docsSchema
	}
)

func newDocsPage(root node) docsPage {
	info := root.at("info")
	page := docsPage{
		Style: template.CSS(docsStyle), Title: info.at("title").text(), Version: info.at("version").text(),
		Summary: info.at("summary").text(), Description: info.at("description").text(),
	}
	byTag := map[string]int{}
	for i, tag := range root.at("tags").items() {
		page.Tags = append(page.Tags, docsTag{Name: tag.at("name").text(), Description: tag.at("description").text()})
		byTag[tag.at("name").text()] = i
	}
	for path, item := range root.at("paths").members() {
		for method, operation := range item.members() {
			switch method {
			case "get", "post", "put", "patch", "delete":
				tag := &page.Tags[byTag[operation.at("tags").items()[0].text()]]
				tag.Operations = append(tag.Operations, newDocsOperation(root, path, method, item, operation))
			}
		}
	}
	for name, schema := range root.at("components", "schemas").members() {
		s := newDocsSchema(schema)
		s.Name = name
		page.Schemas = append(page.Schemas, s)
	}
	return page
}

func newDocsOperation(root node, path, method string, item, operation node) docsOperation {
	o := docsOperation{
		ID: operation.at("operationId").text(), Method: strings.ToUpper(method), Path: path, Summary: operation.at("summary").text(),
		Description: operation.at("description").text(), Permission: operation.at("x-permission").text(), Budget: operation.at("x-budget").text(),
	}
	for _, p := range append(item.at("parameters").items(), operation.at("parameters").items()...) {
		p = p.resolved(root)
		o.Parameters = append(o.Parameters, docsField{
			Name: p.at("name").text(), In: p.at("in").text(), Description: p.at("description").text(),
			Required: p.at("required").text() == "true", Schema: newDocsSchema(p.at("schema")),
		})
	}
	body := operation.at("requestBody").resolved(root)
	o.Body, o.BodyRequired = newDocsContent(body), body.at("required").text() == "true"
	for status, response := range operation.at("responses").members() {
		response = response.resolved(root)
		r := docsResponse{Status: status, Description: response.at("description").text(), Content: newDocsContent(response)}
		for header := range response.at("headers").members() {
			r.Headers = append(r.Headers, header)
		}
		o.Responses = append(o.Responses, r)
	}
	return o
}

func newDocsContent(of node) (all []docsContent) {
	for media, content := range of.at("content").members() {
		all = append(all, docsContent{media, newDocsSchema(content.at("schema"))})
	}
	return all
}

func newDocsSchema(n node) docsSchema {
	if ref := n.at("$ref").text(); ref != "" {
		return docsSchema{Ref: ref[strings.LastIndex(ref, "/")+1:]}
	}
	s := docsSchema{Type: n.at("type").text(), Description: n.at("description").text()}
	if format := n.at("format").text(); format != "" {
		s.Type = format
	}
	var limits []string
	for _, limit := range []string{"enum", "const", "default", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "example"} {
		if text := n.at(limit).text(); text != "" {
			limits = append(limits, limit+": "+text)
		}
	}
	s.Limits = strings.Join(limits, "; ")
	required := map[string]bool{}
	for _, name := range n.at("required").items() {
		required[name.text()] = true
	}
	for name, property := range n.at("properties").members() {
		schema := newDocsSchema(property)
		description := schema.Description
		schema.Description = ""
		s.Fields = append(s.Fields, docsField{Name: name, Description: description, Required: required[name], Schema: schema})
	}
	if items := n.at("items"); items.Node != nil {
		s.Type = "array of"
		s.Items = new(newDocsSchema(items))
	}
	if values := n.at("additionalProperties"); values.Node != nil && values.Kind == yaml.MappingNode {
		s.Type = "object of any names with"
		s.Items = new(newDocsSchema(values))
	}
	return s
}

var (
	proseBold = regexp.MustCompile(`\*\*([^*]+)\*\*`)
	proseCode = regexp.MustCompile("`([^`]+)`")
)

// prose returns a description as HTML: paragraphs, **bold** and `code`.
func prose(text string) template.HTML {
	var html strings.Builder
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if paragraph == "" {
			continue
		}
		paragraph = template.HTMLEscapeString(paragraph)
		paragraph = proseBold.ReplaceAllString(paragraph, "<strong>$1</strong>")
		html.WriteString("<p>" + proseCode.ReplaceAllString(paragraph, "<code>$1</code>") + "</p>\n")
	}
	return template.HTML(html.String())
}
