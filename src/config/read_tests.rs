use secrecy::ExposeSecret as _;

use super::super::table::{File, Setting, Shown, Side};
use super::*;

const PLAIN: Setting = Setting {
    name: "PLAIN",
    default: Default::Words("nothing"),
    takes: "what it takes",
    side: Side::Both,
    since: "0.1.0",
    shown: Shown::Whole,
    file: File::Never,
};

fn given(value: Option<&str>) -> Given {
    Given { setting: PLAIN, value: value.map(str::to_owned) }
}

/// What becomes of a value, and whether it is named as bad.
fn checked<T>(value: Option<&str>, read: impl Fn(&mut Check, &Given) -> Option<T>) -> (Option<T>, bool) {
    let mut check = Check::default();
    let got = read(&mut check, &given(value));
    assert!(check.bad.len() <= 1, "it is said twice: {:?}", check.bad);
    (got, !check.bad.is_empty())
}

/// A secret is kept as it is, even one that is named as bad: then nothing starts.
fn secret_checked(value: &str, read: impl Fn(&mut Check, &Given) -> Option<SecretString>) -> bool {
    let (got, is_bad) = checked(Some(value), read);
    assert_eq!(got.unwrap().expose_secret(), value);
    !is_bad
}

#[test]
fn a_bad_value_is_named_with_what_it_takes_and_the_default_needs_no_value() {
    let mut check = Check::default();
    let number = |text: &str| text.parse::<u32>().ok();
    assert_eq!(check.read(&given(Some(" 7 ")), number), Some(7));
    assert_eq!(check.read(&given(None), number), None);
    let setting = Setting { default: Default::Value("5"), ..PLAIN };
    assert_eq!(check.read(&Given { setting, value: None }, number), Some(5));
    assert_eq!(check.bad, []);
    assert_eq!(check.read(&given(Some("seven")), number), None);
    let bad = |got: &str| Bad { name: "PLAIN".into(), got: got.into(), takes: "what it takes".into() };
    assert_eq!(check.bad, [bad("seven")]);
    let setting = Setting { shown: Shown::Never, ..PLAIN };
    check.read(&Given { setting, value: Some("seven".into()) }, number);
    assert_eq!(check.bad, [bad("seven"), bad("***")]);
}

#[test]
fn a_delay_may_be_none_and_is_an_hour_at_most() {
    assert_eq!(delay("0s"), Some(Duration::ZERO));
    assert_eq!(delay("1h"), Some(Duration::from_secs(3_600)));
    for text in ["", "5", "61m", "3601s", "-1s", "99999999999999999999h"] {
        assert_eq!(delay(text), None, "{text}");
    }
}

#[test]
fn a_wait_for_a_file_is_short_and_an_address_is_good_for_a_day_at_most() {
    assert_eq!(media_wait("0s"), Some(Duration::ZERO));
    assert_eq!(media_wait("1m"), Some(Duration::from_secs(60)));
    assert_eq!(["", "61s", "-1s"].map(media_wait), [None; 3]);
    assert_eq!(ttl("1s"), Some(Duration::from_secs(1)));
    assert_eq!(ttl("24h"), Some(Duration::from_secs(86_400)));
    assert_eq!(["", "0s", "999ms", "86401s"].map(ttl), [None; 4]);
    assert_eq!(model("whisper-1").as_deref(), Some("whisper-1"));
    assert_eq!(["", "a b", "a\r\nb", "ñ", &"x".repeat(129)].map(model), [const { None }; 5]);
    let all = ["basic", "full", "", "Full"].map(fields);
    assert_eq!(all, [Some(Fields::Basic), Some(Fields::Full), None, None]);
}

#[test]
fn what_another_room_has_read_is_taken_or_named() {
    let mut check = Check::default();
    assert_eq!(check.all(Ok(7)), Some(7));
    assert_eq!(check.bad, []);
    let bad = ["A", "B"].map(|name| (name, "x".to_owned(), "what it takes"));
    assert_eq!(check.all::<u32>(Err(bad.into())), None);
    let names: Vec<_> = check.bad.iter().map(|bad| bad.name.as_str()).collect();
    assert_eq!(names, ["A", "B"]);
}

#[test]
fn a_time_is_more_than_nothing() {
    let read = |text| checked(Some(text), Check::duration);
    assert_eq!(read("1ms"), (Some(Duration::from_millis(1)), false));
    assert_eq!(read("5m"), (Some(Duration::from_secs(300)), false));
    for text in ["0s", "0ms", "5", "soon", ""] {
        assert_eq!(read(text), (None, true), "{text}");
    }
}

#[test]
fn a_time_is_refused_only_if_it_is_known_not_to_fit() {
    let (one, takes) = (Some(Duration::from_secs(1)), "less");
    for (got, fits, is_bad) in
        [(one, Some(false), true), (one, Some(true), false), (one, None, false), (None, Some(false), false)]
    {
        let mut check = Check::default();
        check.relation("PLAIN", got, |_| fits, takes);
        let bad = Bad { name: "PLAIN".into(), got: "1s".into(), takes: takes.into() };
        assert_eq!(check.bad, if is_bad { vec![bad] } else { vec![] }, "{got:?} {fits:?}");
    }
}

#[test]
fn a_path_and_a_simulator_are_where_they_are_said_to_be() {
    assert_eq!(checked(Some("./data"), Check::path), (Some(PathBuf::from("./data")), false));
    let url = "ws://127.0.0.1:7080/ws/chat";
    let simulator = |value, can_simulate| checked(value, |check, given| check.simulator(given, can_simulate));
    assert_eq!(simulator(Some(url), true), (Some(url.to_owned()), false));
    assert_eq!(simulator(Some(url), false), (Some(url.to_owned()), true));
    assert_eq!(simulator(Some("http://h"), true), (Some("http://h".to_owned()), true));
    assert_eq!(simulator(None, true), (None, false));
}

#[test]
fn what_goes_into_a_header_is_printable_ascii() {
    for (value, fits) in [
        ("topsecret", true),
        ("top secret ~!", true),
        ("", true),
        ("tópsecret", false),
        ("top\nsecret", false),
        ("top\u{7f}secret", false),
    ] {
        assert_eq!(secret_checked(value, Check::header), fits, "{value:?}");
    }
    let (none, is_bad) = checked(None, Check::header);
    assert!(none.is_none() && !is_bad);
}

#[test]
fn a_token_is_neither_short_nor_long_nor_has_it_a_space() {
    let of = |characters| "x".repeat(characters);
    for (value, fits) in [
        (of(15), false),
        (of(16), true),
        (of(256), true),
        (of(257), false),
        ("0123456789 abcdef".to_owned(), false),
        ("0123456789\u{e9}abcdef".to_owned(), false),
    ] {
        assert_eq!(secret_checked(&value, Check::token), fits, "{value}");
    }
}

#[test]
fn words_are_taken_as_they_are_and_no_others() {
    use topology::Provision::{Create, Off, Verify};
    let provisions = ["create", "verify", "off", "", "Create"].map(provision);
    assert_eq!(provisions, [Some(Create), Some(Verify), Some(Off), None, None]);
    let modes = ["answer", "shadow", "", "Shadow"].map(mode);
    assert_eq!(modes, [Some(Mode::Answer), Some(Mode::Shadow), None, None]);
    let formats = ["pretty", "json", "", "xml"].map(log_format);
    assert_eq!(formats, [Some(LogFormat::Pretty), Some(LogFormat::Json), None, None]);
    assert_eq!(["on", "off", "", "On"].map(switch), [Some(true), Some(false), None, None]);
    assert_eq!(["masked", "full", "", "none"].map(full_pii), [Some(false), Some(true), None, None]);
    assert_eq!(filter("off,whatsapp_connector=debug").as_deref(), Some("off,whatsapp_connector=debug"));
    assert_eq!(filter("a=b=c"), None);
}

#[test]
fn numbers_are_taken_between_their_bounds() {
    let copies = ["0", "1", "2", "3", "4", "5", "6", "three"].map(replicas);
    assert_eq!(copies, [None, Some(1), None, Some(3), None, Some(5), None, None]);
    let calls = ["0", "1", "100000", "100001", "-1", "many"].map(concurrency);
    assert_eq!(calls, [None, Some(1), Some(100_000), None, None, None]);
    let bytes = ["1048575", "1048576", "1MiB", "9223372036854775807", "9223372036854775808", "big"].map(size);
    let mib = Some(1 << 20);
    assert_eq!(bytes, [None, mib, mib, Some(i64::MAX.unsigned_abs()), None, None]);
}

#[test]
fn an_address_of_http_has_its_scheme_and_a_host() {
    for text in ["http://localhost:8000/", "https://host/path"] {
        assert_eq!(url(text).unwrap().as_str(), text);
    }
    for text in ["ftp://host", "localhost:8000", "host", "http://", "file:///etc", ""] {
        assert_eq!(url(text), None, "{text}");
    }
}

#[test]
fn a_phone_number_has_five_to_twenty_digits_however_it_is_written() {
    for (text, want) in [
        ("+54 9 (11) 1234-5678", Some("5491112345678")),
        ("011.4321.8765", Some("01143218765")),
        ("12345", Some("12345")),
        ("1234", None),
        ("12345678901234567890", Some("12345678901234567890")),
        ("123456789012345678901", None),
        ("54911x", None),
        ("", None),
    ] {
        assert_eq!(digits(text).as_deref(), want, "{text}");
    }
    let all = |text| {
        numbers(text).map(|numbers| {
            let mut numbers: Vec<_> = numbers.into_iter().collect();
            numbers.sort();
            numbers.join(" ")
        })
    };
    assert_eq!(all("54911, +1 555,,").as_deref(), None, "one of them is too short");
    assert_eq!(all("54911, +1 5551,,").as_deref(), Some("15551 54911"));
    assert_eq!(all(" , ").as_deref(), Some(""));
}
