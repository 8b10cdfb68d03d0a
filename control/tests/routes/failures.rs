//! Who gets no answer, or may not ask, is told why in a sentence.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use postern_certs::dev_ca::DevCa;

use crate::scene::{At, BOOKS, Scene, text};

/// What the operator is told by these arguments in place of the usual ones.
fn told(scene: &Scene, code: i32, words: &str, change: impl Fn(&mut Vec<String>)) -> String {
    let mut arguments: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
    let mut place = scene.service_arguments("operator");
    change(&mut place);
    arguments.extend(place);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    scene.run(&arguments, "").failed(code)
}

/// Gives the option another value.
fn set(arguments: &mut [String], option: &str, value: &str) {
    let at = arguments.iter().position(|it| it == option).unwrap();
    value.clone_into(&mut arguments[at + 1]);
}

#[test]
fn a_service_that_cannot_be_reached_is_no_answer() {
    let scene = Scene::with_service();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let place = |it: &mut Vec<String>| set(it, "--service", &format!("https://{closed}"));
    assert_eq!(
        told(&scene, 3, "list", place),
        format!("the service at {closed}: cannot connect: Connection refused (os error 111)\n")
    );
    assert_eq!(
        told(&scene, 3, "lookup 7 a.example", place),
        told(&scene, 3, "list", place)
    );
    let unknown = told(&scene, 3, "list", |it| {
        set(it, "--service", "https://nowhere.invalid");
    });
    assert!(
        unknown.starts_with("the service at nowhere.invalid:443: cannot connect: "),
        "{unknown}"
    );
}

#[test]
fn a_service_that_does_not_answer_is_no_answer() {
    let scene = Scene::with_service();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("https://{}", silent.local_addr().unwrap());
    let late = told(&scene, 3, "list --timeout 50ms", |it| {
        set(it, "--service", &at);
    });
    assert!(
        late.ends_with(": cannot connect: not within 50ms\n"),
        "{late}"
    );
    // What speaks, but no TLS.
    let plain = std::thread::spawn(move || {
        let (mut stream, _) = silent.accept().unwrap();
        // The first handshake is the one above, which has given up.
        drop(stream);
        (stream, _) = silent.accept().unwrap();
        let _ = stream.read(&mut [0; 5]);
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let spoken = told(&scene, 3, "list", |it| set(it, "--service", &at));
    assert!(spoken.contains(": cannot connect: TLS: "), "{spoken}");
    plain.join().unwrap();
}

#[test]
fn a_service_that_is_not_the_one_is_told_with_what_helps() {
    let scene = Scene::with_service();
    let other = DevCa::new("Other CA").unwrap();
    let path = scene.path("other.pem");
    std::fs::write(&path, other.ca_pem()).unwrap();
    let untrusted = told(&scene, 3, "list", |it| set(it, "--trust", &text(&path)));
    assert!(
        untrusted.ends_with(
            "TLS: invalid peer certificate: UnknownIssuer; is --trust the CA that signed it?\n"
        ),
        "{untrusted}"
    );
    let renamed = told(&scene, 3, "list", |it| set(it, "--name", "other.example"));
    assert!(
        renamed.contains("not valid for name \"other.example\"")
            && renamed.ends_with("; --name says which name it must have\n"),
        "{renamed}"
    );
}

#[test]
fn who_may_not_ask_is_told_so() {
    let scene = Scene::with_service();
    scene.ask_with(At::Service, &["import", "-"], BOOKS).ok();
    let as_who = |who: &'static str| {
        let path = text(&scene.path(who));
        move |it: &mut Vec<String>| set(it, "--identity", &path)
    };
    let foreign = told(&scene, 3, "list", as_who("foreign"));
    assert!(
        foreign.contains("it does not take our certificate"),
        "{foreign}"
    );
    let stranger = told(&scene, 1, "list", as_who("stranger"));
    assert!(stranger.starts_with("AuthorizationFailed: "), "{stranger}");
    let reader = told(&scene, 1, "approve clinic/images/pe-1", as_who("reader"));
    assert!(reader.starts_with("AuthorizationFailed: "), "{reader}");
    // Whoever may not look up has not been told "no".
    let stranger = told(
        &scene,
        3,
        "lookup 7 images.clinic.example",
        as_who("stranger"),
    );
    assert!(stranger.starts_with("AuthorizationFailed: "), "{stranger}");
}

#[test]
fn credentials_that_are_no_good_are_told_before_anything_is_sent() {
    let scene = Scene::with_service();
    let nothing = text(&scene.path("nothing"));
    let absent = told(&scene, 2, "list", |it| set(it, "--identity", &nothing));
    assert!(
        absent.starts_with("--identity: there are no credentials at "),
        "{absent}"
    );
    let ca = text(&scene.path("ca.pem"));
    let no_key = told(&scene, 2, "list", |it| set(it, "--identity", &ca));
    assert!(no_key.starts_with("--identity: "), "{no_key}");
    let server = text(&scene.path("server"));
    let usage = told(&scene, 2, "list", |it| set(it, "--identity", &server));
    assert!(usage.starts_with("--identity: "), "{usage}");
    let no_trust = told(&scene, 2, "list", |it| set(it, "--trust", &nothing));
    assert!(no_trust.starts_with("--trust: "), "{no_trust}");
    let apart = |key: &str| {
        let operator = scene.path("operator");
        let (cert, key) = (text(&operator.join("tls.crt")), key.to_owned());
        move |it: &mut Vec<String>| {
            let at = it.iter().position(|it| it == "--identity").unwrap();
            let apart = ["--cert", &cert, "--key", &key].map(str::to_owned);
            it.splice(at..at + 2, apart);
        }
    };
    let key = text(&scene.path("reader/tls.key"));
    let another = told(&scene, 2, "list", apart(&key));
    assert!(another.starts_with("--cert and --key: "), "{another}");
    assert!(told(&scene, 2, "list", apart(&nothing)).starts_with("--key: "));
}

#[test]
fn certificate_and_key_may_be_apart_and_bring_the_ca() {
    let scene = Scene::with_service();
    let service = format!("https://127.0.0.1:{}", scene.port());
    let config = format!(
        "service = \"{service}\"\nname = \"{}\"\ncert = \"operator/tls.crt\"\nkey = \"operator/tls.key\"\n\
         trust = \"ca.pem\"\n",
        crate::scene::NAME
    );
    std::fs::write(scene.path("apart.toml"), config).unwrap();
    scene.run(&["list", "--config", "apart.toml"], "").ok();
    // The folder has `ca.crt`, which is the trust where nothing else is said.
    let together = [
        "list",
        "--service",
        &service,
        "--name",
        crate::scene::NAME,
        "--identity",
        "operator",
    ];
    scene.run(&together, "").ok();
}

#[test]
fn a_file_that_is_none_is_told_and_left_alone() {
    let scene = Scene::with_file();
    let told = |path: &str| scene.run(&["list", "--file", path], "").failed(2);
    assert_eq!(told("nothing"), "--file: there is no nothing\n");
    assert!(!scene.path("nothing").exists());
    let text = "this is no database, and long enough not to be mistaken for the beginning of one";
    std::fs::write(scene.path("text"), text).unwrap();
    let refused = scene.run(&["list", "--file", "text"], "").failed(3);
    assert!(refused.starts_with("text: "), "{refused}");
    assert_eq!(std::fs::read_to_string(scene.path("text")).unwrap(), text);
    let create = scene.run(
        &[
            "import",
            "-",
            "--create",
            "--service",
            "https://a:1",
            "--identity",
            "i",
        ],
        "{}",
    );
    assert!(
        create
            .failed(2)
            .starts_with("standard input:1:2: missing field")
    );
}

#[test]
fn bad_arguments_are_refused_before_anything_is_asked() {
    let scene = Scene::with_file();
    for words in [
        "",
        "lst",
        "show",
        "approve clinic/images",
        "lookup 7 *.example",
        "list --state no",
    ] {
        let refused = scene
            .run(&words.split_whitespace().collect::<Vec<_>>(), "")
            .failed(2);
        assert!(
            refused.contains("Usage") || refused.contains("--help"),
            "{refused}"
        );
    }
    assert!(
        scene
            .run(&["list"], "")
            .failed(2)
            .starts_with("where are the books?")
    );
    let help = scene.run(&["approve", "--help"], "").ok();
    assert!(help.contains("Exit codes: 0 done"), "{help}");
    let defaults = scene.run(&["defaults"], "").ok();
    std::fs::write(scene.path("defaults.toml"), &defaults).unwrap();
    let file = text(&scene.file());
    scene
        .run(&["list", "--file", &file, "--config", "defaults.toml"], "")
        .ok();
}
