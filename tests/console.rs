//! The console: whoever has the token links, unlinks and sees to dead letters on one page; nobody else changes anything.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use crate::support::heart::Watch;
use crate::support::{BUSINESS, Connector, Customer, Layout, PATIENCE, Role, Stage, eventually, warning};

const TOKEN: &str = "a-token-of-the-tests";

/// A browser without a script, at the page of one process.
struct Browser {
    client: reqwest::Client,
    base: String,
    cookie: Option<String>,
}

impl Browser {
    fn at(connector: &Connector) -> Self {
        let builder = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
        let client = builder.redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        Self { client, base: format!("http://{}", connector.address()), cookie: None }
    }

    /// That has logged in.
    async fn logged_in(connector: &Connector) -> Self {
        let mut browser = Self::at(connector);
        let answer = browser.send(browser.form("/console/login", &[("token", TOKEN)])).await;
        assert_eq!(answer.status(), 303);
        browser.cookie = Some(cookie(&answer).split(';').next().expect("a cookie").to_owned());
        browser
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.with_cookie(self.client.get(format!("{}{path}", self.base)))
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let body: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let request = self.client.post(format!("{}{path}", self.base)).body(body.join("&"));
        self.with_cookie(request.header("content-type", "application/x-www-form-urlencoded"))
    }

    fn with_cookie(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Response {
        request.send().await.expect("an answer")
    }

    async fn status(&self, request: RequestBuilder) -> u16 {
        self.send(request).await.status().as_u16()
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.send(self.get(path)).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.expect("a page")
    }

    /// What the forms of the page carry.
    async fn csrf(&self) -> String {
        let page = self.page("/").await;
        let value = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        value.filter(|value| !value.is_empty()).unwrap_or_else(|| panic!("no form in {page}")).to_owned()
    }

    /// Sends a form of the page as the page does. What the page says then.
    async fn does(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let csrf = self.csrf().await;
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        let answer = self.send(self.form(path, &all)).await;
        assert_eq!(answer.status(), 303, "{path}");
        let back = answer.headers()["location"].to_str().expect("text").trim_start_matches("..").to_owned();
        self.page(&back).await
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn cookie(answer: &Response) -> &str {
    answer.headers()["set-cookie"].to_str().expect("text")
}

/// The code of eight characters on a page, as it is typed.
fn code_on(page: &str) -> String {
    let code = page.split("id=\"code\">").nth(1).and_then(|rest| rest.split('<').next());
    code.unwrap_or_else(|| panic!("no code in {page}")).replace('-', "")
}

#[tokio::test]
async fn without_a_token_the_page_is_read_on_loopback_and_changes_nothing() {
    let stage = Stage::plan().set().await;
    let edge = stage.start(Role::Edge).await;
    edge.shows_a_code().await;
    let browser = Browser::at(&edge);

    let page = browser.page("/").await;
    assert!(page.contains("<svg role=\"img\"") && page.contains("Linked devices"), "{page}");
    assert!(!page.contains("<form"), "{page}");
    let spanish =
        browser.send(browser.get("/link?way=code").header("accept-language", "es-AR,en;q=0.5")).await;
    let spanish = spanish.text().await.expect("a page");
    assert!(
        spanish.contains("<html lang=\"es\">") && spanish.contains("Dispositivos vinculados"),
        "{spanish}"
    );

    // What comes in by the address is not in the page.
    let hostile = "\"><script>alert(1)</script>";
    let answer = browser.send(browser.get(&format!("/?way={0}&said={0}", escaped(hostile)))).await;
    let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!answer.text().await.expect("a page").contains("alert(1)"));

    for path in ["/", "/link", "/console/events"] {
        assert_eq!(browser.status(browser.get(path).header("host", "evil.example")).await, 403, "{path}");
    }
    for path in [
        "/console/code",
        "/console/unlink",
        "/console/letters",
        "/console/takeover",
        "/console/login",
        "/console/logout",
    ] {
        assert_eq!(
            browser.status(browser.form(path, &[("sure", "yes"), ("do", "drop")])).await,
            403,
            "{path}"
        );
        let with_token = browser.form(path, &[("sure", "yes"), ("do", "drop")]).bearer_auth(TOKEN);
        assert_eq!(browser.status(with_token).await, 403, "{path}");
    }
    assert_eq!(browser.status(browser.get("/console/login")).await, 303);
    edge.stop().await;
}

#[tokio::test]
async fn only_who_has_logged_in_or_sends_the_token_changes_something() {
    let stage = Stage::plan().setting("HTTP_TOKEN", TOKEN).set().await;
    stage.logs.expects("a client sends wrong tokens to the admin server");
    let edge = stage.start(Role::Edge).await;
    edge.shows_a_code().await;
    let stranger = Browser::at(&edge);

    let answer = stranger.send(stranger.get("/")).await;
    assert_eq!(answer.status(), 401);
    assert!(!answer.text().await.expect("a page").contains("<svg"));
    assert_eq!(stranger.status(stranger.get("/console/events")).await, 401);

    let browser = Browser::logged_in(&edge).await;
    let csrf = browser.csrf().await;
    let ask = [("csrf", csrf.as_str()), ("phone", "nonsense")];
    // Who has the cookie and not the form, or the form and not the cookie, or is another page.
    assert_eq!(browser.status(browser.form("/console/code", &[("phone", "1")])).await, 403);
    assert_eq!(
        browser.status(browser.form("/console/code", &[("csrf", &csrf[1..]), ("phone", "1")])).await,
        403
    );
    assert_eq!(stranger.status(stranger.form("/console/code", &ask)).await, 401);
    let elsewhere = |name: &'static str, value: &'static str| {
        browser.status(browser.form("/console/code", &ask).header(name, value))
    };
    assert_eq!(elsewhere("sec-fetch-site", "cross-site").await, 403);
    assert_eq!(elsewhere("origin", "http://evil.example").await, 403);
    assert_eq!(elsewhere("origin", "null").await, 403);
    assert_eq!(elsewhere("sec-fetch-site", "same-origin").await, 303);
    assert_eq!(
        stranger.status(stranger.form("/console/code", &ask).basic_auth("me", Some(TOKEN))).await,
        403
    );
    let script =
        stranger.send(stranger.form("/console/code", &[("phone", "nonsense")]).bearer_auth(TOKEN)).await;
    assert_eq!(script.status(), 409);
    assert_eq!(script.json::<Value>().await.expect("JSON")["code"], "not-a-number");

    let login = [("token", TOKEN)];
    let set =
        stranger.send(stranger.form("/console/login", &login).header("x-forwarded-proto", "https")).await;
    let text = cookie(&set);
    assert!(text.contains("; HttpOnly; SameSite=Strict; Secure"), "{text}");
    let crossed = stranger.form("/console/login", &login).header("sec-fetch-site", "cross-site");
    assert_eq!(stranger.status(crossed).await, 403);

    assert_eq!(browser.status(browser.form("/console/logout", &[("csrf", &csrf)])).await, 303);
    assert_eq!(browser.status(browser.get("/")).await, 401, "the cookie is good for nothing any more");

    for _ in 0..5 {
        assert_eq!(
            stranger.status(stranger.form("/console/login", &[("token", "wrong-token-of-tests")])).await,
            401
        );
    }
    let later = stranger.send(stranger.form("/console/login", &login)).await;
    assert_eq!(later.status(), 429);
    assert!(later.headers().contains_key("retry-after"));
    let log = edge.process.stderr();
    assert!(!log.contains(TOKEN) && !log.contains(&csrf), "{log}");
    edge.stop().await;
}

#[tokio::test]
async fn a_number_is_linked_with_a_typed_code_and_unlinked_on_the_page() {
    let stage = Stage::plan().setting("HTTP_TOKEN", TOKEN).set().await;
    let mut edge = stage.start(Role::Edge).await;
    edge.shows_a_code().await;
    let browser = Browser::logged_in(&edge).await;

    browser.does("/console/code", &[("phone", "+54 9 11 0000-0000")]).await;
    // The code takes the machine some seconds.
    let page = eventually("a code", PATIENCE, async || {
        let page = browser.page("/?way=code").await;
        if page.contains("id=\"code\"") { Ok(page) } else { Err(page) }
    })
    .await;
    let code = code_on(&page);
    assert_eq!(code.len(), 8, "{code}");
    stage.simulator.type_code(&code).await.expect("a code that is valid");
    edge.ready().await;
    let page = browser.page("/").await;
    assert!(page.contains("Linked as") && page.contains("…0000") && page.contains(" since "), "{page}");
    assert!(!page.contains(BUSINESS) && !page.contains(&code), "{page}");
    let log = edge.process.stderr();
    assert!(!log.contains(&code), "a code is a secret while it is valid: {log}");
    let linked = browser.does("/console/code", &[("phone", BUSINESS)]).await;
    assert!(linked.contains("A number is linked already"), "{linked}");

    let unsure = browser.does("/console/unlink", &[]).await;
    assert!(unsure.contains("Tick the box first") && unsure.contains("Linked as"), "{unsure}");
    browser.does("/console/unlink", &[("sure", "yes")]).await;
    eventually("the phone to list no device", PATIENCE, async || match stage.simulator.devices().await {
        0 => Ok(()),
        some => Err(format!("{some}")),
    })
    .await;
    edge.shows_a_code().await;
    assert!(!browser.page("/").await.contains("Linked as"));
    edge.link(&stage.simulator).await;
    edge.stop().await;
}

#[tokio::test]
async fn an_edge_of_a_pool_has_a_wall_of_accounts_and_a_page_for_each() {
    let stage = crate::accounts::plan().setting("HTTP_TOKEN", TOKEN).set().await;
    let shops = stage.simulator.shops(2).await;
    let [first, second] = &shops[..] else { panic!("two shops") };
    for shop in &shops {
        stage.command(&["accounts", "add", &shop.name]).await;
    }
    let edge = stage.start(Role::Edge).await;
    let browser = Browser::logged_in(&edge).await;
    let page_of = |shop: &crate::support::shops::Shop| format!("/?account={}", shop.name);
    eventually("both accounts on the wall", PATIENCE, async || {
        let page = browser.page("/").await;
        let has =
            |shop: &crate::support::shops::Shop| page.contains(&format!("href=\"?account={}\"", shop.name));
        if shops.iter().all(has) { Ok(()) } else { Err(page) }
    })
    .await;
    stage.link_shop(first).await;
    let own = browser.page(&page_of(first)).await;
    assert!(own.contains("Linked as") && !own.contains("<svg role"), "{own}");
    eventually("the other account's QR code", PATIENCE, async || {
        let page = browser.page(&page_of(second)).await;
        if page.contains("<svg role") { Ok(()) } else { Err(page) }
    })
    .await;

    // What is done is done for the account of the page, and the page is its own again.
    let said = browser.does("/console/code", &[("account", &second.name), ("phone", &second.phone)]).await;
    assert!(said.contains(&second.name) && !said.contains("Linked as"), "{said}");
    eventually("a code", PATIENCE, async || {
        let page = browser.page(&format!("{}&way=code", page_of(second))).await;
        if page.contains("id=\"code\"") { Ok(()) } else { Err(page) }
    })
    .await;
    assert!(!browser.page(&format!("{}&way=code", page_of(first))).await.contains("id=\"code\""));
    let nobody = browser.does("/console/unlink", &[("sure", "yes")]).await;
    assert!(nobody.contains("has no session with WhatsApp"), "{nobody}");
    assert!(browser.page(&page_of(first)).await.contains("Linked as"), "no account was named");
    browser.does("/console/unlink", &[("account", &first.name), ("sure", "yes")]).await;
    eventually("its page to show a QR code", PATIENCE, async || {
        let page = browser.page(&page_of(first)).await;
        if page.contains("<svg role") { Ok(()) } else { Err(page) }
    })
    .await;
    let elsewhere = browser.page("/?account=nobody").await;
    assert!(elsewhere.contains("does not work for this account"), "{elsewhere}");
    let hostile = "\"><script>alert(1)</script>";
    assert!(!browser.page(&format!("/?account={}", escaped(hostile))).await.contains("alert(1)"));
    edge.stop().await;
}

#[tokio::test]
async fn an_open_page_is_told_what_changes_and_holds_nobody() {
    let stage = Stage::plan().set().await;
    let mut edge = stage.start(Role::Edge).await;
    edge.shows_a_code().await;
    let browser = Browser::at(&edge);
    let mut open = Vec::new();
    for _ in 0..16 {
        let stream = browser.send(browser.get("/console/events")).await;
        assert_eq!(stream.headers()["content-type"], "text/event-stream");
        open.push(stream);
    }
    assert_eq!(browser.status(browser.get("/console/events")).await, 503);
    assert_eq!(browser.status(browser.get("/livez")).await, 200);
    let mut told = open.pop().expect("a stream");
    let mut heard = String::new();
    assert!(until(&mut told, &mut heard, "<svg").await.contains("event: link\ndata: "));
    edge.link(&stage.simulator).await;
    heard.clear();
    let said = until(&mut told, &mut heard, "Linked as").await;
    // A busy machine takes so long that the code is a new one before the number is linked.
    let now = said.rsplit("event: link\n").next().expect("a link");
    assert!(!now.contains("<svg"), "the code is still there");
    drop(told);
    eventually("a free place", PATIENCE, async || {
        let stream = browser.send(browser.get("/console/events")).await;
        match stream.status().as_u16() {
            200 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;

    let began = Watch::start();
    edge.stop().await;
    began.within(Duration::from_secs(8), "an end with pages open").await;
}

/// Reads until this is said.
async fn until<'a>(stream: &mut Response, heard: &'a mut String, what: &str) -> &'a str {
    let read = async {
        while !heard.contains(what) {
            let piece = stream.chunk().await.expect("a piece").expect("no end");
            heard.push_str(std::str::from_utf8(&piece).expect("text"));
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{what} is not said"));
    heard
}

#[tokio::test]
async fn a_dead_letter_is_replayed_or_dropped_on_the_page() {
    let mut stage = Stage::plan().setting("HTTP_TOKEN", TOKEN).backend("BACKEND_FAIL", "1:422").set().await;
    stage.logs.expects(&warning::given_up("http-422"));
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let customer = stage.customer().await;
    let streams = stage.streams().await;
    customer.write("otra oportunidad").await;
    customer.write("esto no").await;
    streams.decided(2).await;
    stage.backend.kill();
    stage.backend.set("BACKEND_FAIL", "");
    stage.backend.restart().await;

    // On the page of either process.
    let (edge, forwarder) =
        (Browser::logged_in(&product.edge).await, Browser::logged_in(&product.forwarders[0]).await);
    let letters = eventually("both dead letters", PATIENCE, async || match ids(&edge.page("/").await) {
        both if both.len() == 2 => Ok(both),
        some => Err(format!("{some:?}")),
    })
    .await;
    let page = forwarder.page("/").await;
    assert!(page.contains("rejected") && page.contains("This process is a forwarder"), "{page}");
    assert!(!page.contains("oportunidad") && !page.contains(customer.phone()), "{page}");
    let page = forwarder.does("/console/letters", &[("id", &letters[1]), ("do", "replay")]).await;
    assert!(page.contains("on its way to the assistant"), "{page}");
    answered(&customer, "otra oportunidad").await;
    shows(&edge, &letters[..1]).await;
    let page = edge.does("/console/letters", &[("id", &letters[0]), ("do", "drop")]).await;
    assert!(page.contains("The dead letter is gone."), "{page}");
    shows(&forwarder, &[]).await;
    let page = edge.does("/console/letters", &[("id", &letters[0]), ("do", "replay")]).await;
    assert!(page.contains("gone already"), "{page}");
    assert_eq!(streams.dead_letters().await.len(), 0);
}

/// A page shows what was looked up a moment before.
async fn shows(browser: &Browser, letters: &[String]) {
    eventually(format!("{letters:?} on the page"), PATIENCE, async || match ids(&browser.page("/").await) {
        shown if shown == letters => Ok(()),
        shown => Err(format!("{shown:?}")),
    })
    .await;
}

async fn answered(customer: &Customer, text: &str) {
    let inbox = customer.receives(1).await;
    assert!(inbox[0].text.contains(text), "{}", inbox[0].text);
}

/// The dead letters that can be replayed, newest first.
fn ids(page: &str) -> Vec<String> {
    let buttons = page.split("id=\"replay-").skip(1);
    buttons.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

/// The users of deploy/nats: each process may do what its role needs, and no more.
#[tokio::test]
async fn a_process_whose_user_may_not_see_what_waits_says_so() {
    let account = crate::nats_accounts::Account::new();
    let stage = Stage::plan().nats(account.setup.clone()).set().await;
    account.output(&stage, &["provision"], "provisioner").await;
    let settings = account.settings("edge", "_INBOX_edge_default");
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut edge = stage.start_with(Role::Edge, &settings).await;
    stage.logs.expects("nats-server refuses that the page of the admin server shows");
    edge.link(&stage.simulator).await;
    let browser = Browser::at(&edge);
    let page = eventually("the page to have looked", PATIENCE, async || {
        let page = browser.page("/").await;
        if page.contains("may not see this") { Ok(page) } else { Err(page) }
    })
    .await;
    assert_eq!(page.matches("may not see this").count(), 2, "{page}");
    assert!(page.contains("Linked as"), "{page}");
    let log = edge.process.stderr();
    assert_eq!(log.matches("nats-server refuses").count(), 1, "{log}");
    edge.stop().await;
}

#[tokio::test]
async fn a_person_takes_over_a_chat_and_gives_it_back_on_the_page() {
    let stage = Stage::plan().setting("HTTP_TOKEN", TOKEN).setting("TAKEOVER", "30m").set().await;
    let product = stage.product(Layout::Split { forwarders: 1 }).await;
    let (customer, streams) = (stage.customer().await, stage.streams().await);
    let browser = Browser::logged_in(&product.edge).await;
    assert!(browser.page("/").await.contains("The assistant answers everywhere"));
    let page =
        browser.does("/console/takeover", &[("do", "take"), ("phone", "nonsense"), ("for", "2h")]).await;
    assert!(page.contains("This is no phone number"), "{page}");
    for time in ["", "13h", "0s", "for ever"] {
        let fields = [("do", "take"), ("phone", customer.phone()), ("for", time)];
        let page = browser.does("/console/takeover", &fields).await;
        assert!(page.contains("This is no time"), "{time}: {page}");
    }
    assert!(streams.takeovers().await.is_empty());

    let page = browser
        .does("/console/takeover", &[("do", "take"), ("phone", customer.phone()), ("for", "2h")])
        .await;
    let masked = format!("…{}", &customer.phone()[customer.phone().len() - 4..]);
    assert!(page.contains("The assistant is silent in this chat now") && page.contains(&masked), "{page}");
    assert!(!page.contains(customer.phone()), "no whole number: {page}");
    customer.write("hola").await;
    streams.settled(1).await;
    let taken = streams.takeovers().await;
    assert_eq!(taken[0].lasts_ms, 2 * 3_600_000, "{taken:?}");
    assert_eq!(stage.backend.calls().await.len(), 0);

    let key = page.split("name=\"key\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let key = key.unwrap_or_else(|| panic!("no form in {page}"));
    // Another page's form, and one without a login, change nothing.
    let stale = browser.form("/console/takeover", &[("csrf", "x"), ("do", "resume"), ("key", key)]);
    assert_eq!(browser.status(stale).await, 403);
    let foreign =
        browser.form("/console/takeover", &[("csrf", &browser.csrf().await), ("do", "resume"), ("key", key)]);
    assert_eq!(browser.status(foreign.header("sec-fetch-site", "cross-site")).await, 403);
    assert_eq!(streams.takeovers().await.len(), 1);
    let page = browser.does("/console/takeover", &[("do", "resume"), ("key", key)]).await;
    assert!(page.contains("answers in this chat again") && !page.contains(&masked), "{page}");
    let page = browser.does("/console/takeover", &[("do", "resume"), ("key", key)]).await;
    assert!(page.contains("No person had this chat any more"), "{page}");
    // What a person writes on the phone is there as well.
    stage.simulator.owner_writes(&customer, "Sigo yo.").await;
    eventually("the chat on the page", PATIENCE, async || {
        let page = browser.page("/").await;
        if page.contains(&masked) { Ok(()) } else { Err(page) }
    })
    .await;
    // A forwarder has no link, and takes over nothing.
    let other = Browser::logged_in(&product.forwarders[0]).await;
    assert!(!other.page("/").await.contains("id=\"taken\""));
}
