use secrecy::ExposeSecret as _;

use super::*;

fn file(text: &str) -> (tempfile::TempDir, RoutesFile) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("routes.toml");
    std::fs::write(&path, text).unwrap();
    for (name, secret) in
        [("acme.key", "top-key\n"), ("acme.secret", "top secret"), ("empty", "\n"), ("odd", "ké")]
    {
        std::fs::write(dir.path().join(name), secret).unwrap();
    }
    let others = backend::Settings {
        url: "http://others:8000".parse().unwrap(),
        proxy: None,
        api_key: Some("others-key".into()),
        webhook_secret: Some("others-secret".into()),
        timeout: Duration::from_secs(120),
    };
    (dir, RoutesFile { path, others, concurrency: 256, proxies: Proxies::default() })
}

fn refused(text: &str) -> String {
    file(text).1.read().unwrap_err().to_string()
}

#[test]
fn a_route_says_what_it_says_and_the_rest_is_the_environments() {
    let (_dir, file) = file(
        "# Who asks whom\n[acme]\nurl = \"https://acme.example.com/api\"\napi_key_file = \"acme.key\"\nwebhook_secret_file = \"acme.secret\"\ntimeout = \"5s\"\nconcurrency = 8\n\n[bolt]\nurl = \"http://bolt\"\napi_key_file = \"\"\n\n[cord]\n",
    );
    let routes = file.read().unwrap();
    let of = |account: &str| routes.iter().find(|route| route.account.as_str() == account).unwrap();
    let secret = |secret: &Option<SecretString>| secret.as_ref().map(|text| text.expose_secret().to_owned());
    let acme = of("acme");
    assert_eq!(acme.backend.url.as_str(), "https://acme.example.com/api");
    assert_eq!(secret(&acme.backend.api_key).as_deref(), Some("top-key"));
    assert_eq!(secret(&acme.backend.webhook_secret).as_deref(), Some("top secret"));
    assert_eq!((acme.backend.timeout, acme.concurrency), (Duration::from_secs(5), 8));
    let bolt = of("bolt");
    assert_eq!((secret(&bolt.backend.api_key), bolt.concurrency), (None, 256));
    assert_eq!(secret(&bolt.backend.webhook_secret).as_deref(), Some("others-secret"));
    assert_eq!(of("cord").backend.url.as_str(), "http://others:8000/");
    assert!(!format!("{routes:?}").contains("top"));
}

#[test]
fn what_cannot_be_used_is_named_with_its_line_and_what_mends_it() {
    for (text, wants) in [
        ("[acme\n", &["line 1: it is no TOML"][..]),
        ("[acme]\n\n[acme]\n", &["line 3: it is no TOML", "duplicate key"]),
        ("[acme]\nurl = \"http://a\"\nurl = \"http://b\"\n", &["line 3:", "duplicate key"]),
        ("url = \"http://a\"\n", &["line 1: url stands in no account", "write [account] above it"]),
        ("[acme]\n[\"My Shop\"]\n", &["line 2: `My Shop` is not an account name", "1 to 64 of a-z"]),
        ("[acme]\ntiemout = \"5s\"\n", &["line 2: tiemout is not known; was timeout meant?"]),
        ("[acme]\napi_key = \"sesame\"\n", &["line 2: api_key is not known", "api_key_file"]),
        ("[acme]\nsomething = 1\n", &["line 2: something is not known; an account has url, "]),
        ("[acme]\nurl = \"ftp://a\"\n", &["line 2: url of [acme] cannot be used; it takes http://"]),
        ("[acme]\nurl = \"http://me:sesame@a\"\n", &["line 2: url of [acme]", "without user and password"]),
        ("[acme]\nurl = 1\n", &["line 2: url of [acme] cannot be used"]),
        ("[acme]\ntimeout = \"0s\"\n", &["line 2: timeout of [acme] cannot be used; it takes a duration"]),
        ("[acme]\nconcurrency = 0\n", &["line 2: concurrency of [acme]", "from 1 to 100000"]),
        ("[acme]\nconcurrency = \"8\"\n", &["line 2: concurrency of [acme]", "without quotes"]),
        ("[acme]\napi_key_file = \"nowhere\"\n", &["line 2: api_key_file of [acme]", "No such file"]),
        ("[acme]\napi_key_file = \"empty\"\n", &["line 2:", "it is empty"]),
        ("[acme]\napi_key_file = \"odd\"\n", &["line 2:", "printable ASCII"]),
    ] {
        let said = refused(text);
        assert!(wants.iter().all(|want| said.contains(want)), "{text}: {said}");
        assert!(!said.contains("sesame"), "{said}");
    }
}

#[test]
fn there_are_limits() {
    let many = |count: usize| (0..count).map(|number| format!("[a{number}]\n")).collect::<String>();
    assert_eq!(file(&many(MOST)).1.read().unwrap().len(), MOST);
    assert!(refused(&many(MOST + 1)).contains("it has 1001 accounts"));
    assert!(refused(&format!("#{}", "x".repeat(1 << 20))).contains("it is larger than 1024 KiB"));
    let (dir, large) = file("[acme]\napi_key_file = \"large\"\n");
    std::fs::write(dir.path().join("large"), "x".repeat(65 << 10)).unwrap();
    assert!(large.read().unwrap_err().to_string().contains("it is larger than 64 KiB"));
    let (dir, gone) = file("");
    assert_eq!(gone.read().unwrap().len(), 0);
    drop(dir);
    assert!(gone.read().unwrap_err().to_string().contains("it cannot be read: No such file"));
}
