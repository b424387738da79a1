// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.1
  ports:
  - port: 80
";

fn names(content: &Content) -> Vec<(u64, String)> {
    let name = |object: &Manifest| match object {
        Manifest::Service(object) => object.name.to_string(),
        Manifest::Slice(object) => object.name.to_string(),
        Manifest::Node(object) => object.node.name.to_string(),
        Manifest::ServiceCidr(object) => object.name.to_string(),
        Manifest::Pod(object) => object.name().to_string(),
    };
    content.objects.iter().map(|it| (it.line, name(&it.object))).collect()
}

#[test]
fn documents_of_one_file_are_objects_with_their_lines() {
    let text = format!("# a comment\n---\n{SERVICE}---\n{}", SERVICE.replace("web", "api"));
    let content = parse(&text).unwrap();
    assert_eq!(names(&content), [(3, "default/web".to_owned()), (11, "default/api".to_owned())]);
    assert_eq!(content.problems, []);
    let Manifest::Service(service) = &content.objects[0].object else { panic!() };
    assert_eq!(service.value.as_ref().unwrap().ports[0].port.get(), 80);
}

#[test]
fn lists_of_every_kind_hold_objects_with_their_lines() {
    let list = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: a, namespace: n}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: b, namespace: n}
  addressType: IPv4
  endpoints: []
---
apiVersion: v1
kind: ServiceList
metadata: {resourceVersion: '7'}
items:
- metadata: {name: c, namespace: n}
- metadata: {name: d, namespace: n}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSliceList
items:
- {metadata: {name: e, namespace: n}, addressType: IPv4, endpoints: []}
---
apiVersion: v1
kind: NodeList
items:
- metadata: {name: f}
";
    let content = parse(list).unwrap();
    assert_eq!(content.problems, []);
    let found: Vec<_> =
        names(&content).into_iter().map(|(line, name)| format!("{line} {name}")).collect();
    assert_eq!(found, ["4 n/a", "7 n/b", "17 n/c", "18 n/d", "23 n/e", "28 f"]);
}

#[test]
fn json_is_yaml() {
    let text = r#"{"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web"}, "spec": {"clusterIP": "10.96.0.1"}}"#;
    assert_eq!(names(&parse(text).unwrap()), [(1, "default/web".to_owned())]);
}

#[test]
fn an_empty_file_and_empty_documents_hold_nothing() {
    for text in ["", "# only a comment\n", "---\n---\n"] {
        assert_eq!(parse(text).unwrap(), Content::default(), "{text:?}");
    }
}

#[test]
fn a_file_that_is_no_yaml_is_told_with_its_line() {
    let (line, problem) = parse(&format!("{SERVICE}---\nkind: [unclosed\n")).unwrap_err();
    assert!((9..=10).contains(&line), "{line}");
    assert!(problem.to_string().contains("last good version"), "{problem}");
}

#[test]
fn a_field_of_a_wrong_type_is_told_with_the_line_of_its_object() {
    let text = format!("{SERVICE}---\n{}", SERVICE.replace("port: 80", "port: http"));
    let (line, problem) = parse(&text).unwrap_err();
    assert_eq!(line, 9);
    assert!(problem.to_string().starts_with("invalid type: string \"http\""), "{problem}");
}

#[test]
fn objects_of_other_kinds_and_without_a_name_are_told_and_the_others_served() {
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: x}}\n---\n{SERVICE}---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{}}\n---\njust: text\n"
    );
    let content = parse(&text).unwrap();
    assert_eq!(names(&content), [(5, "default/web".to_owned())]);
    let told: Vec<_> =
        content.problems.iter().map(|(line, problem)| format!("{line}: {problem}")).collect();
    assert_eq!(
        told,
        [
            "1: kind \"Deployment\" of \"apps/v1\" is not read here; the object is ignored",
            "13: Service has no metadata.name; the object is ignored",
            "17: kind \"\" of \"\" is not read here; the object is ignored",
        ]
    );
}

#[test]
fn ten_thousand_objects_of_one_file_are_read() {
    let documents: Vec<_> = (0..10_000)
        .map(|at| format!("---\n{}", SERVICE.replace("web", &format!("w{at}"))))
        .collect();
    assert_eq!(parse(&documents.concat()).unwrap().objects.len(), 10_000);
}
