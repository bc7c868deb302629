//! Templates of Docker's documentation, and hostile ones.

use proptest::prelude::*;

use super::*;

fn data() -> Value {
    let mut value: Value = serde_json::from_str(
        r#"{
        "ID": "c0ffee", "Name": "/web", "Running": true, "Count": 3, "Share": 0.5, "Error": "",
        "State": {"Status": "running", "ExitCode": 0},
        "Args": ["-c", "ls"], "None": null, "Env": [],
        "Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "back": {"IPAddress": "10.0.0.2"}},
        "Labels": {"a.b": "1"},
        "Ports": {"80/tcp": [{"HostPort": "8080"}], "53/udp": null}
    }"#,
    )
    .unwrap();
    if let Value::Map(fields) = &mut value {
        let answers = vec![("tier".to_owned(), "front".to_owned())];
        fields.push(("Label".to_owned(), Value::Lookup(answers)));
    }
    value
}

fn render(text: &str) -> String {
    let made = Template::parse(text).and_then(|template| template.render(&data()));
    made.unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    let made = Template::parse(text).and_then(|template| template.render(&data()));
    made.expect_err(text).to_string()
}

#[test]
fn templates_of_dockers_documentation_render() {
    for (template, want) in [
        ("plain", "plain"),
        ("{{.ID}}: {{.Name}}", "c0ffee: /web"),
        ("{{ .State.Status }}", "running"),
        ("{{json .Args}}", r#"["-c","ls"]"#),
        ("{{json .State}}", r#"{"Status":"running","ExitCode":0}"#),
        ("{{.Args}} {{.Labels}}", "[-c ls] map[a.b:1]"),
        ("{{.None}}", "<no value>"),
        ("{{.Running}} {{.Count}} {{.Share}}", "true 3 0.5"),
        ("{{upper .State.Status}} {{.Name | title | lower}}", "RUNNING /web"),
        ("{{join .Args \", \"}}", "-c, ls"),
        ("{{range split \"a,b\" \",\"}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range .Networks}}{{.IPAddress}} {{end}}", "10.0.0.2 172.17.0.2 "),
        (
            "{{range $n, $c := .Networks}}{{$n}}={{$c.IPAddress}};{{end}}",
            "back=10.0.0.2;bridge=172.17.0.2;",
        ),
        ("{{range $i, $a := .Args}}{{$i}}{{$a}}{{end}}", "0-c1ls"),
        ("{{range $a := .Args}}{{$a}}{{end}}", "-cls"),
        ("{{range .Env}}x{{else}}empty{{end}}", "empty"),
        ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
        (
            "{{range $p, $conf := .Ports}}{{$p}}{{if $conf}} -> {{(index $conf 0).HostPort}}{{end}} {{end}}",
            "53/udp 80/tcp -> 8080 ",
        ),
        ("{{index .Labels \"a.b\"}}{{index .Labels \"none\"}}", "1"),
        ("{{.Label \"tier\"}}{{.Label \"none\"}}", "front"),
        ("{{if .Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Error}}bad{{else if eq .Count 3}}three{{else}}good{{end}}", "three"),
        ("{{if and .Running (gt .Count 2)}}yes{{end}}", "yes"),
        ("{{if or .Error (not .Running)}}yes{{else}}no{{end}}", "no"),
        ("{{with .State}}{{.Status}} {{$.ID}}{{end}}", "running c0ffee"),
        ("{{with .Error}}x{{else}}no error{{end}}", "no error"),
        ("{{$x := .Count}}{{$x}}{{$x = 4}}{{$x}}", "34"),
        ("{{println .ID}}{{print 1 2 \"a\" \"b\"}}", "c0ffee\n1 2ab"),
        ("{{printf \"%-5s|%3d|%q\" .ID .Count .Name}}", "c0ffee|  3|\"/web\""),
        ("{{len .Args}} {{len .ID}} {{truncate .ID 3}} {{slice .ID 1 3}}", "2 6 c0f 0f"),
        ("{{pad .ID 1 2}}|", " c0ffee  |"),
        ("a {{- .Count -}} b", "a3b"),
        ("a{{/* nothing */}}b{{- /* at all */ -}} c", "abc"),
        ("{{`raw \\n`}}{{\"\\t\"}}", "raw \\n\t"),
        (
            "{{eq .Count 1 2 3}} {{ne .ID \"x\"}} {{le 1 1.5}} {{lt \"a\" \"b\"}}",
            "true true true true",
        ),
        ("{{range .Args}}{{if eq . \"ls\"}}{{break}}{{end}}{{.}}{{end}}", "-c"),
        ("{{range .Args}}{{if eq . \"-c\"}}{{continue}}{{end}}{{.}}{{end}}", "ls"),
        ("{{html \"<a>\"}} {{urlquery \"a b&\"}}", "&lt;a&gt; a+b%26"),
        ("{{.}}{{/* the dot */}}", &data().to_string()),
    ] {
        assert_eq!(render(template), want, "{template}");
    }
}

#[test]
fn methods_are_not_shown_as_json() {
    assert!(!render("{{json .}}").contains("Label\":\"tier"));
    assert!(render("{{json .}}").starts_with(r#"{"ID":"c0ffee","Name""#));
}

#[test]
fn mistakes_are_named() {
    for (template, want) in [
        ("{{.Id}}", "did you mean .ID?"),
        ("{{.State.Sttaus}}", "did you mean .Status?"),
        ("{{.State.Nothing}}", "there are Status, ExitCode"),
        ("{{.ID.Name}}", "can't evaluate field Name in type string"),
        ("{{.ID", "unclosed action"),
        ("{{}}", "missing value"),
        ("{{uper .ID}}", "did you mean upper?"),
        ("{{if .ID}}x", "{{end}} is missing"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{\"abc}}", "unterminated quoted string"),
        ("{{$x}}", "undefined variable: $x"),
        ("{{(.ID}}", "unclosed left paren"),
        ("{{.ID | 3}}", "cannot stand after |"),
        ("{{.ID 3}}", "can't give argument to non-function"),
        ("{{index .Args 7}}", "out of range"),
        ("{{index .None 0}}", "untyped nil"),
        ("{{template \"x\"}}", "not built"),
        ("{{break}}", "outside {{range}}"),
        ("{{12x}}", "bad number"),
        ("{{.Label}}{{.Label 1}}", "one argument"),
        ("{{join .ID}}", "join does not take (string)"),
    ] {
        let said = error(template);
        assert!(said.contains(want), "{template}: {said}");
    }
}

#[test]
fn depth_is_limited() {
    assert!(error(&"{{if true}}".repeat(1000)).contains("nested deeper"));
    assert!(error(&format!("{{{{{}}}}}", "(".repeat(1000))).contains("nested deeper"));
    assert!(
        error(&format!("{{{{if true}}}}{}", "{{else if true}}".repeat(1000))).contains("deeper")
    );
}

proptest! {
    #[test]
    fn anything_is_rendered_or_refused(
        text in prop::collection::vec(
            prop::sample::select(vec![
                "{{", "}}", "{{-", "-}}", " ", ".", "ID", ".Args", "$", "$x", ":=", "|", "(", ")",
                "if", "range", "with", "end", "else", "index", "json", "3", "\"a\"", "`", ",", "eq",
                "break", "printf", "%9", "/*", "*/", "é",
            ]),
            0..24,
        )
    ) {
        if let Ok(template) = Template::parse(&text.concat()) {
            let _ = template.render(&data());
        }
    }

    #[test]
    fn text_without_actions_stays_as_it_is(text in "[^{]{0,64}") {
        prop_assert_eq!(Template::parse(&text).unwrap().render(&data()).unwrap(), text);
    }
}
