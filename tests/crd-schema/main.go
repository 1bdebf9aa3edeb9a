// Says what an API server would say: whether it takes the CustomResourceDefinitions of some files, and which objects
// it would refuse by their schemas and rules. It is the truth that Caracal's own judgement is held against, and uses
// the API server's published code for it.
//
//	crd-schema FILE...          definitions (YAML, JSON, or one JSON a line); objects on stdin, one JSON a line
//
// For each definition that is refused a line {"definition": NAME, "errors": [...]} is printed, and for each object a
// line {"errors": [...]}, empty when it is taken.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	definitions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	names "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	limits "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// What judges the objects of one definition.
type judge struct {
	structural *schema.Structural
	values     validation.SchemaValidator
	rules      *cel.Validator
	namespaced bool
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crd-schema:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	answers := json.NewEncoder(out)
	judges := map[string]*judge{}
	for _, file := range files {
		all, err := read(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, crd := range all {
			errs, err := learn(crd, judges)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", file, crd.Name, err)
			}
			if len(errs) > 0 {
				if err := answers.Encode(map[string]any{"definition": crd.Name, "errors": texts(errs)}); err != nil {
					return err
				}
			}
		}
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) == 0 && err != nil {
			return nil
		}
		errs, err := verdict(line, judges)
		if err != nil {
			return err
		}
		if err := answers.Encode(map[string]any{"errors": errs}); err != nil {
			return err
		}
	}
}

// The definitions of a file.
func read(file string) ([]*v1.CustomResourceDefinition, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(string(text), "\n---\n")
	if strings.HasSuffix(file, ".jsonl") {
		parts = strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	var all []*v1.CustomResourceDefinition
	for _, part := range parts {
		crd := &v1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict([]byte(part), crd); err != nil {
			return nil, err
		}
		v1.SetDefaults_CustomResourceDefinition(crd)
		v1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
		all = append(all, crd)
	}
	return all, nil
}

// Makes the judges of a definition's versions; the errors are those for which it would be refused.
func learn(crd *v1.CustomResourceDefinition, judges map[string]*judge) (field.ErrorList, error) {
	internal := &apiextensions.CustomResourceDefinition{}
	if err := v1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(crd, internal, nil); err != nil {
		return nil, err
	}
	internal.Status.StoredVersions = []string{crd.Spec.Versions[0].Name}
	errs := definitions.ValidateCustomResourceDefinition(context.Background(), internal)
	for _, version := range crd.Spec.Versions {
		props := &apiextensions.JSONSchemaProps{}
		if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, props, nil); err != nil {
			return nil, err
		}
		structural, err := schema.NewStructural(props)
		if err != nil {
			return nil, err
		}
		values, _, err := validation.NewSchemaValidator(props)
		if err != nil {
			return nil, err
		}
		rules := cel.NewValidator(structural, true, limits.PerCallLimit)
		key := crd.Spec.Group + "/" + version.Name + " " + crd.Spec.Names.Kind
		judges[key] = &judge{structural, values, rules, crd.Spec.Scope == v1.NamespaceScoped}
	}
	return errs, nil
}

// What an object would be refused for, in the order in which an API server looks: defaults, unknown fields, metadata,
// values, lists, rules.
func verdict(line []byte, judges map[string]*judge) ([]string, error) {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(line); err != nil {
		return []string{err.Error()}, nil
	}
	object := u.Object
	key := u.GetAPIVersion() + " " + u.GetKind()
	judge, found := judges[key]
	if !found {
		return nil, fmt.Errorf("there is no definition for %q", key)
	}
	defaulting.Default(object, judge.structural)
	defaulting.PruneNonNullableNullsWithoutDefaults(object, judge.structural)
	track := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	errs := field.ErrorList{}
	for _, path := range pruning.PruneWithOptions(object, judge.structural, true, track) {
		errs = append(errs, field.Invalid(field.NewPath(path), nil, "unknown field"))
	}
	errs = append(errs, names.ValidateObjectMetaAccessor(u, judge.namespaced, names.NameIsDNSSubdomain, field.NewPath("metadata"))...)
	errs = append(errs, validation.ValidateCustomResource(nil, object, judge.values)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, judge.structural, object)...)
	if len(errs) == 0 {
		found, _ := judge.rules.Validate(context.Background(), nil, judge.structural, object, nil, limits.RuntimeCELCostBudget)
		errs = append(errs, found...)
	}
	return texts(errs), nil
}

func texts(errs field.ErrorList) []string {
	out := make([]string, 0, len(errs))
	for _, err := range errs {
		out = append(out, err.Error())
	}
	return out
}
