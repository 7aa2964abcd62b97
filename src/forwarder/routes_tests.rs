use std::time::Duration;

use super::*;

fn backend(url: &str) -> backend::Settings {
    let _ = rustls::crypto::ring::default_provider().install_default();
    backend::Settings {
        url: url.parse().unwrap(),
        proxy: None,
        api_key: None,
        webhook_secret: None,
        timeout: Duration::from_secs(30),
    }
}

fn settings(account: &str, url: &str) -> Settings {
    Settings { account: Account::parse(account).unwrap(), backend: backend(url), concurrency: 16 }
}

fn account(name: &str) -> Account {
    Account::parse(name).unwrap()
}

fn routes(own: &[Settings]) -> Routes {
    Routes::new(&backend("http://others:1"), 16, own).unwrap()
}

fn hold(route: &Route) {
    route.breaker.refused("a", "unreachable", None);
}

#[test]
fn who_is_not_named_goes_to_the_others() {
    let routes = routes(&[settings("acme", "http://acme:1")]);
    assert_eq!(routes.of(&account("acme")).name(), Some("acme"));
    assert_eq!(routes.of(&account("acme")).backend.server(), ("acme", 1));
    for other in ["default", "acme-2"] {
        assert_eq!(routes.of(&account(other)).backend.server(), ("others", 1));
    }
}

#[test]
fn what_did_not_change_is_the_same_route_and_what_did_is_another() {
    let own = [settings("acme", "http://acme:1"), settings("bolt", "http://bolt:1")];
    let routes = routes(&own);
    let before = [routes.of(&account("acme")), routes.of(&account("bolt"))];
    hold(&before[0]);
    let changed = [own[0].clone(), settings("bolt", "http://bolt:2"), settings("cord", "http://cord:1")];
    let changes = routes.replace(&changed, |lanes| assert_eq!(lanes.own.len(), 3)).unwrap();
    assert_eq!(changes, Changes { routes: 3, changed: 2, removed: 0 });
    assert!(Arc::ptr_eq(&before[0], &routes.of(&account("acme"))), "its hold goes on");
    assert!(!before[0].retired.is_cancelled() && before[1].retired.is_cancelled());
    assert_eq!(routes.of(&account("bolt")).backend.server(), ("bolt", 2));
    let changes = routes.replace(&changed[..2], |_| {}).unwrap();
    assert_eq!(changes, Changes { routes: 2, changed: 0, removed: 1 });
    assert_eq!(routes.of(&account("cord")).name(), None);
    for change in [
        Settings { concurrency: 3, ..own[0].clone() },
        Settings {
            backend: backend::Settings { timeout: Duration::from_secs(1), ..own[0].backend.clone() },
            ..own[0].clone()
        },
        Settings {
            backend: backend::Settings { api_key: Some("key".into()), ..own[0].backend.clone() },
            ..own[0].clone()
        },
        Settings {
            backend: backend::Settings { webhook_secret: Some("secret".into()), ..own[0].backend.clone() },
            ..own[0].clone()
        },
    ] {
        assert_eq!(routes.replace(&[change], |_| {}).unwrap().changed, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_that_can_begin_is_enough_to_go_on_pulling() {
    let routes = routes(&[settings("acme", "http://acme:1")]);
    let (acme, others) = (routes.of(&account("acme")), routes.of(&account("x")));
    hold(&acme);
    let taken: Vec<_> = std::iter::from_fn(|| others.begin_now()).collect();
    assert!(!taken.is_empty());
    let (_, most) = routes.table().can_begin().await;
    assert_eq!(most, 16, "probes of the held one are of use");
    let tasks: Vec<_> = (0..16)
        .map(|chat| (Arc::clone(&acme), chat.to_string()))
        .map(|(acme, chat)| tokio::spawn(async move { acme.breaker.pass(&chat).await }))
        .collect();
    tokio::task::yield_now().await;
    let nobody = tokio::time::timeout(Duration::from_millis(1), async { routes.table().can_begin().await });
    assert!(nobody.await.is_err(), "one is held, and has its probes; the other one has no slot");
    assert!(acme.begin_now().is_none());
    drop(taken);
    let (free, most) = routes.table().can_begin().await;
    assert!(free > 0 && most == MAX_BATCH);
    drop(tasks);
}

#[test]
fn it_is_everybodys_hold_if_every_route_is_held_that_is_in_use() {
    let routes = routes(&[settings("acme", "http://acme:1"), settings("bolt", "http://bolt:1")]);
    let (acme, bolt) = (routes.of(&account("acme")), routes.of(&account("bolt")));
    let held = || {
        let (held, is_every) = routes.held(|_| 7);
        (held.iter().map(|route| route.name().to_owned()).collect::<Vec<_>>(), is_every)
    };
    assert_eq!(held(), (Vec::new(), false));
    drop(acme.begin_now());
    hold(&acme);
    assert_eq!(held(), (vec!["acme".to_owned()], true), "nothing has come for the others");
    drop(bolt.begin_now());
    assert_eq!(held(), (vec!["acme".to_owned()], false));
    hold(&bolt);
    assert_eq!(held(), (vec!["acme".to_owned(), "bolt".to_owned()], true));
    hold(&routes.of(&account("x")));
    assert_eq!(held().0, [OTHERS, "acme", "bolt"]);
}

/// Each client for TLS has all certificates in memory.
#[test]
fn routes_share_what_is_expensive() {
    let own: Vec<_> = (0..1_000).map(|number| settings(&format!("a{number}"), "https://h")).collect();
    let began = std::time::Instant::now();
    let routes = routes(&own);
    assert_eq!(routes.table().all().count(), 1_001);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
