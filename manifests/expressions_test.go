// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"

	"github.com/certwright/certwright/api/v1alpha1"
)

// refuses reports whether an admission policy refuses what its expressions are shown: its conditions hold, and a validation does not. An
// authorizer that is shown says what is allowed; without one nothing is.
func refuses(t *testing.T, policy string, shown map[string]any) bool {
	t.Helper()
	env, err := environment.MustBaseEnvSet(version.MajorMinor(1, 36)).NewExpressionsEnv().Extend(
		cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType), cel.Variable("request", cel.DynType), cel.Variable("variables", cel.DynType), cel.Variable("authorizer", library.AuthorizerType))
	if err != nil {
		t.Fatal(err)
	}
	value := func(expression string) any {
		compiled, issues := env.Compile(expression)
		if issues.Err() != nil {
			t.Fatalf("%s: %s: %v", policy, expression, issues.Err())
		}
		program, err := env.Program(compiled)
		if err != nil {
			t.Fatal(err)
		}
		value, _, err := program.Eval(shown)
		if err != nil {
			t.Fatalf("%s: %s: %v", policy, expression, err)
		}
		return value
	}
	spec := admissionPolicies(t)[policy]
	if spec == nil {
		t.Fatalf("there is no policy %s", policy)
	}
	may, _ := shown["authorizer"].(func(authorizer.Attributes) bool)
	shown["authorizer"] = library.NewAuthorizerVal(nil, authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		if may != nil && may(a) {
			return authorizer.DecisionAllow, "", nil
		}
		return authorizer.DecisionNoOpinion, "", nil
	}))
	for _, condition := range spec.Spec.MatchConditions {
		if value(condition.Expression) != types.True {
			return false
		}
	}
	variables := map[string]any{}
	shown["variables"] = variables
	for _, v := range spec.Spec.Variables {
		variables[v.Name] = value(v.Expression)
	}
	for _, validation := range spec.Spec.Validations {
		if value(validation.Expression) != types.True {
			return true
		}
	}
	return false
}

// TestReviewIsWrittenByTheApproverOnly: what tells a person what a request asks for is not for the requester to write.
func TestReviewIsWrittenByTheApproverOnly(t *testing.T) {
	request := func(review string) any {
		if review == "" {
			return map[string]any{"metadata": map[string]any{}}
		}
		return map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationReview: review, "a": "b"}}}
	}
	account := "system:serviceaccount:" + namespace + ":" + serviceAccount("approver").Name
	for name, c := range map[string]struct {
		user, operation string
		before, after   any
		refused         bool
	}{
		"made without one":         {"alice", "CREATE", nil, request(""), false},
		"made with one":            {"alice", "CREATE", nil, request("harmless"), true},
		"made by a workload":       {"system:serviceaccount:shop:web", "CREATE", nil, request("harmless"), true},
		"added later":              {"alice", "UPDATE", request(""), request("harmless"), true},
		"changed":                  {"alice", "UPDATE", request("dangerous"), request("harmless"), true},
		"left alone":               {"alice", "UPDATE", request("dangerous"), request("dangerous"), false},
		"taken away":               {"alice", "UPDATE", request("dangerous"), request(""), false},
		"written by the approver":  {account, "UPDATE", request(""), request("dangerous"), false},
		"mended by the approver":   {account, "UPDATE", request("harmless"), request("dangerous"), false},
		"approver of another name": {"system:serviceaccount:shop:certwright-approver", "UPDATE", request(""), request("harmless"), true},
	} {
		shown := map[string]any{
			"object": c.after, "oldObject": c.before,
			"request": map[string]any{"operation": c.operation, "userInfo": map[string]any{"username": c.user}},
		}
		if got := refuses(t, "certwright-request-review", shown); got != c.refused {
			t.Errorf("%s: refused %t, want %t", name, got, c.refused)
		}
	}
}

// TestRenewAtIsWrittenWithTheCertificate: when to renew is for the signer to say where it signs, in a form that cannot be mistaken.
func TestRenewAtIsWrittenWithTheCertificate(t *testing.T) {
	request := func(key, value string) any {
		annotations := map[string]any{"a": "b"}
		if key != "" {
			annotations[key] = value
		}
		return map[string]any{"metadata": map[string]any{"annotations": annotations}, "spec": map[string]any{"signerName": "a.b/c"}}
	}
	const at = "2028-02-29T12:34:56Z"
	for name, c := range map[string]struct {
		component, subresource, key, value string
		refused                            bool
	}{
		"with the certificate":     {"signer", "status", v1alpha1.AnnotationRenewAt, at, false},
		"with none":                {"signer", "status", "", "", false},
		"in another form":          {"signer", "status", v1alpha1.AnnotationRenewAt, "tomorrow", true},
		"with more behind it":      {"signer", "status", v1alpha1.AnnotationRenewAt, at + "\n" + at, true},
		"another annotation":       {"signer", "status", "example.com/a", at, true},
		"the approver's":           {"signer", "status", v1alpha1.AnnotationReview, "harmless", true},
		"beside the certificate":   {"signer", "", v1alpha1.AnnotationRenewAt, at, true},
		"with an approval":         {"approver", "approval", v1alpha1.AnnotationRenewAt, at, true},
		"by the approver as well":  {"approver", "status", v1alpha1.AnnotationRenewAt, at, true},
		"the approver's, approved": {"approver", "approval", v1alpha1.AnnotationReview, "harmless", true},
	} {
		shown := map[string]any{
			"object": request(c.key, c.value), "oldObject": request("", ""),
			"request": map[string]any{
				"operation": "UPDATE", "subResource": c.subresource,
				"userInfo": map[string]any{"username": "system:serviceaccount:" + namespace + ":" + serviceAccount(c.component).Name},
			},
		}
		if got := refuses(t, "certwright-request-writes", shown); got != c.refused {
			t.Errorf("%s: refused %t, want %t", name, got, c.refused)
		}
	}
}

// TestRequestsAreSmallWhateverTheirNames: the API server takes any text for the name of a request, of any length.
func TestRequestsAreSmallWhateverTheirNames(t *testing.T) {
	long, longer := strings.Repeat("é", 126)+"a", strings.Repeat("é", 127)
	owner := func(name string) map[string]any {
		return map[string]any{"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u"}}}
	}
	managed := func(n int, field string) map[string]any {
		annotations := map[string]any{".": map[string]any{}}
		for i := range n {
			annotations[fmt.Sprint("f:", i)] = map[string]any{}
		}
		fields := map[string]any{"f:metadata": map[string]any{"f:annotations": annotations}, "f:spec": map[string]any{field: map[string]any{}}}
		return map[string]any{"managedFields": []any{map[string]any{"manager": "m", "fieldsV1": fields}, map[string]any{"manager": "n"}}}
	}
	deep := managed(1, "f:request")
	deep["managedFields"].([]any)[0].(map[string]any)["fieldsV1"] = map[string]any{"a": map[string]any{"b": map[string]any{"c": map[string]any{"d": nil}}}}
	for name, c := range map[string]struct {
		user     string
		metadata map[string]any
		refused  bool
	}{
		"253 bytes":               {"system:serviceaccount:shop:web", map[string]any{"name": long}, false},
		"254 bytes":               {"system:serviceaccount:shop:web", map[string]any{"name": longer}, true},
		"254 bytes, of a person":  {"alice", map[string]any{"name": longer}, false},
		"generated from 253":      {"system:serviceaccount:shop:web", map[string]any{"generateName": long}, false},
		"generated from 254":      {"system:serviceaccount:shop:web", map[string]any{"generateName": longer}, true},
		"fields that are managed": {"system:serviceaccount:shop:web", managed(200, "f:request"), false},
		"too many such fields":    {"system:serviceaccount:shop:web", managed(300, "f:request"), true},
		"a long such field":       {"system:serviceaccount:shop:web", managed(1, "f:"+strings.Repeat("a", 320)), true},
		"a deep such field":       {"system:serviceaccount:shop:web", deep, true},
		"an owner":                {"system:serviceaccount:shop:web", owner("web"), false},
		"an owner with long name": {"system:serviceaccount:shop:web", owner(strings.Repeat("a", 1024)), true},
	} {
		shown := map[string]any{
			"object": map[string]any{"metadata": c.metadata}, "request": map[string]any{"userInfo": map[string]any{"username": c.user}},
		}
		if got := refuses(t, "certwright-request-metadata", shown); got != c.refused {
			t.Errorf("%s: refused %t, want %t", name, got, c.refused)
		}
	}
}
