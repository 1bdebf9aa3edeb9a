// Renders templates with Go's own text/template: what calicoctl's must equal.
//
// Standard input is a JSON object {"data": …, "templates": [text, …]}, standard output a JSON array with {"want": text} or
// {"error": text} for each.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
)

// plain makes whole numbers int and others float64, as they are in typed objects.
func plain(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return int(n)
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
	}
	return value
}

func join(list []any, between string) string {
	parts := make([]string, len(list))
	for i, item := range list {
		parts[i] = fmt.Sprint(item)
	}
	return strings.Join(parts, between)
}

func render(text string, data any) map[string]string {
	t, err := template.New("main").Funcs(template.FuncMap{"join": join}).Parse(text)
	var out strings.Builder
	if err == nil {
		err = t.Execute(&out, data)
	}
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return map[string]string{"want": out.String()}
}

func main() {
	var input struct {
		Data      any      `json:"data"`
		Templates []string `json:"templates"`
	}
	decoder := json.NewDecoder(os.Stdin)
	decoder.UseNumber()
	if err := decoder.Decode(&input); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	data := plain(input.Data)
	answers := make([]map[string]string, len(input.Templates))
	for i, text := range input.Templates {
		answers[i] = render(text, data)
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
