//! The permissions that each role needs on nats-server, and a check of which are missing.
//!
//! The lists are those of deploy/nats/accounts.conf; a test compares them. nats-server does not tell a user its
//! permissions, so the check tries each one, with messages that change nothing where they are allowed.

use std::time::Duration;

use super::refusals::MARK;
use super::topology::{Media, Role};
use super::{Bus, REQUEST_TIMEOUT};
use crate::wire::{Account, Subjects, micro};

/// No stream has this name, so no stream stores a message that expects to be in it.
const NO_STREAM: &str = "WHATSAPP_CONNECTOR_CHECK";
/// Neither a request of JetStream's nor a kind of ack, so its receiver does nothing.
const NOTHING: &str = "check";
/// How long to wait for refusals after the answers: they come separately, and may come a moment later.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// A permission that a role needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Publish or subscribe.
    pub verb: Verb,
    /// The subject that the permission names.
    pub subject: String,
    /// A subject that the permission covers and where nothing happens.
    probe: String,
}

/// One of a user's two lists of permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `publish`.
    Publish,
    /// `subscribe`.
    Subscribe,
}

impl Need {
    /// Is it the permission to receive answers at all?
    pub fn is_inbox(&self) -> bool {
        self.verb == Verb::Subscribe && self.subject.ends_with(".>")
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = match self.verb {
            Verb::Publish => "publish to",
            Verb::Subscribe => "subscribe to",
        };
        write!(f, "{verb} {}", self.subject)
    }
}

/// What a process uses beside what each of its role does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uses {
    /// People see that the backend works on an answer.
    pub typing: bool,
    /// Its edge puts files into the bucket.
    pub fetched: Option<Media>,
    /// Its edge keeps who wants nothing unasked.
    pub opt_outs: bool,
    /// Its edge keeps the session on the bus.
    pub sessions: bool,
    /// It reads files: it hands them out, or has voice notes written down.
    pub read: bool,
    /// Others see it as a NATS micro service, and ask its edge.
    pub service: bool,
    /// It makes the consumers of its pool's accounts, which come while it runs.
    pub creates: bool,
}

/// All permissions that `role` needs, with what `uses` takes. `api` is the prefix of the subjects of JetStream's API. `inbox` is the prefix
/// of the subjects for answers.
pub fn needs(subjects: &Subjects, role: Role<'_>, uses: Uses, api: &str, inbox: &str) -> Vec<Need> {
    let exact = |subject: String| Need { verb: Verb::Publish, probe: subject.clone(), subject };
    let subscribe = |subject: String| Need { verb: Verb::Subscribe, probe: subject.clone(), subject };
    // The tokens of a subject that may have any value.
    let some = |subject: &str| publish(subject.to_owned());
    let key = |subject: String| key_of(subject, api);
    let info = |stream: String| exact(format!("{api}.STREAM.INFO.{stream}"));

    let mut needs = vec![subscribe(format!("{inbox}.>")), subscribe(subjects.live_status())];
    needs.extend([subjects.stream_in(), subjects.stream_out(), subjects.stream_dlq()].map(info));
    if uses.service {
        needs.extend(micro::subjects("*").map(&subscribe));
    }
    let mut reads = uses.read;
    let every = Account::every();
    if role == Role::Pool {
        needs.extend(pool(subjects, uses, api));
    }
    let (stream, consumer) = match role {
        Role::Edge(_) | Role::Pool => {
            let account = if let Role::Edge(account) = role { account } else { &every };
            let lease = subjects.lease(account);
            needs.extend(uses.typing.then(|| subscribe(subjects.all_typing(Some(account)))));
            needs.extend(uses.service.then(|| subscribe(subjects.services_of(account))));
            needs.extend([
                some(&subjects.in_of(account)),
                some(&key(lease.clone())),
                info(subjects.stream_leases()),
                some(&format!("{api}.DIRECT.GET.{}.{}", subjects.stream_in(), subjects.in_of(account))),
                // What was offered last in a chat.
                some(&format!("{api}.DIRECT.GET.{}.{}", subjects.stream_out(), subjects.replies_of(account))),
                some(&format!("{api}.DIRECT.GET.{}.{}", subjects.stream_out(), subjects.sends_of(account))),
                some(&format!("{api}.DIRECT.GET.{}.{lease}", subjects.stream_leases())),
            ]);
            needs.extend(uses.opt_outs.then(|| opt_outs(subjects, account, api)).into_iter().flatten());
            needs.extend(uses.sessions.then(|| session(subjects, account, api)).into_iter().flatten());
            if let Some(media) = uses.fetched {
                needs.extend(subjects.all_media().iter().map(|part| some(part)));
                needs.push(info(subjects.stream_media()));
                reads |= media.sends;
            }
            (subjects.stream_out(), subjects.consumer_edge(account))
        }
        Role::Forwarder => {
            let marks = format!("$KV.{}.>", subjects.bucket_attempts());
            needs.extend(uses.typing.then(|| some(&subjects.all_typing(None))));
            needs.extend([
                some(&subjects.all_replies()),
                some(&subjects.dead_of(None)),
                some(&key(marks.clone())),
                info(subjects.stream_attempts()),
                some(&format!("{api}.DIRECT.GET.{}.{}", subjects.stream_out(), subjects.all_replies())),
                // Whether a person has taken over a chat.
                some(&format!("{api}.DIRECT.GET.{}.{}", subjects.stream_in(), subjects.takeovers_of(None))),
                some(&format!("{api}.DIRECT.GET.{}.{marks}", subjects.stream_attempts())),
                // A message that waits is read again when its turn comes.
                exact(format!("{api}.DIRECT.GET.{}", subjects.stream_in())),
                subscribe(subjects.all_replies()),
            ]);
            (subjects.stream_in(), subjects.consumer_forwarder())
        }
    };
    if reads {
        needs.push(exact(format!("{api}.DIRECT.GET.{}", subjects.stream_media())));
    }
    // A wildcard is a whole token.
    let consumer = if role == Role::Pool { "*".to_owned() } else { consumer };
    needs.extend([
        some(&format!("{api}.CONSUMER.INFO.{stream}.{consumer}")),
        some(&format!("{api}.CONSUMER.MSG.NEXT.{stream}.{consumer}")),
        some(&format!("$JS.ACK.{stream}.{consumer}.>")),
        // With a JetStream domain in between.
        some(&format!("$JS.ACK.*.*.{stream}.{consumer}.>")),
    ]);
    needs
}

/// To know the accounts of a pool and who has them, and what its edges tell each other.
fn pool(subjects: &Subjects, uses: Uses, api: &str) -> Vec<Need> {
    let subscribe = |subject: String| Need { verb: Verb::Subscribe, probe: subject.clone(), subject };
    let (accounts, keys, leases) =
        (subjects.stream_accounts(), subjects.account_keys(), subjects.stream_leases());
    let (stream, filter) = (subjects.stream_out(), subjects.out_of(&Account::every()));
    let makes = format!("{api}.CONSUMER.CREATE.{stream}.*.{filter}");
    let mut needs = vec![
        publish(format!("{api}.STREAM.INFO.{accounts}")),
        publish(key_of(keys.clone(), api)),
        publish(format!("{api}.DIRECT.GET.{accounts}")),
        publish(format!("{api}.DIRECT.GET.{accounts}.{keys}")),
        publish(format!("{api}.DIRECT.GET.{leases}")),
        publish(subjects.live_pool()),
        subscribe(subjects.live_pool()),
        subscribe(subjects.leases()),
    ];
    needs.extend(uses.creates.then(|| publish(makes)));
    needs
}

/// To publish to a subject, in which some tokens may have any value.
fn publish(subject: String) -> Need {
    let probe = subject.replace(['*', '>'], NOTHING);
    Need { verb: Verb::Publish, subject, probe }
}

/// Where a key-value client publishes to.
fn key_of(subject: String, api: &str) -> String {
    if api == super::access::OWN_API { subject } else { format!("{api}.{subject}") }
}

/// To know who wants nothing unasked, in the chats of one account.
fn opt_outs(subjects: &Subjects, account: &Account, api: &str) -> [Need; 3] {
    let (stream, keys) = (subjects.stream_opt_outs(), subjects.opt_out_keys(Some(account)));
    let (info, get) = (format!("{api}.STREAM.INFO.{stream}"), format!("{api}.DIRECT.GET.{stream}.{keys}"));
    [key_of(keys, api), info, get].map(publish)
}

/// To read and write the slots of one account's session, and of no other.
fn session(subjects: &Subjects, account: &Account, api: &str) -> [Need; 3] {
    let (stream, slots) = (subjects.stream_session(), subjects.session_slots(account));
    let (info, get) = (format!("{api}.STREAM.INFO.{stream}"), format!("{api}.DIRECT.GET.{stream}.{slots}"));
    [slots, info, get].map(publish)
}

/// What the page of the admin server looks at and does, beyond what its process needs otherwise: the same as `status` and
/// `dlq`. The role works without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageNeeds {
    /// To see what waits.
    pub waits: Vec<Need>,
    /// To see the dead letters.
    pub letters: Vec<Need>,
    /// To replay and drop them.
    pub changes: Vec<Need>,
}

/// All permissions for the page.
fn page_needs(subjects: &Subjects, api: &str) -> PageNeeds {
    let exact = |subject: String| Need { verb: Verb::Publish, subject: subject.clone(), probe: subject };
    let some = |subject: String| {
        let probe = subject.replace(['*', '>'], NOTHING);
        Need { verb: Verb::Publish, subject, probe }
    };
    let get = |stream: String| exact(format!("{api}.DIRECT.GET.{stream}"));
    let (stream_in, stream_out, dead) = (subjects.stream_in(), subjects.stream_out(), subjects.stream_dlq());
    let messages = subjects.all_messages();
    let forwarder = subjects.consumer_forwarder();
    PageNeeds {
        waits: vec![
            exact(subjects.live_status()),
            get(stream_in.clone()),
            get(stream_out.clone()),
            get(subjects.stream_leases()),
            exact(format!("{api}.CONSUMER.INFO.{stream_in}.{forwarder}")),
            some(format!("{api}.CONSUMER.INFO.{stream_out}.*")),
        ],
        letters: vec![get(dead.clone()), exact(format!("{api}.STREAM.INFO.{dead}"))],
        changes: vec![
            exact(format!("{api}.STREAM.MSG.DELETE.{dead}")),
            some(messages.clone()),
            some(format!("{api}.DIRECT.GET.{stream_in}.{messages}")),
        ],
    }
}

/// The permission to create something: a publish to `subject`.
pub fn to_make(subject: &str) -> Need {
    Need { verb: Verb::Publish, subject: subject.to_owned(), probe: subject.to_owned() }
}

impl Bus {
    /// All permissions that `role` needs on this bus, with this connection's settings.
    pub fn needs(&self, subjects: &Subjects, role: Role<'_>, uses: Uses) -> Vec<Need> {
        needs(subjects, role, uses, &self.api, self.refusals.inbox())
    }

    /// What of the page this user may not have: to see what waits, to see dead letters, to change them. One warning in the
    /// log says so, as nothing else depends on it.
    pub async fn page_lacks(&self, subjects: &Subjects) -> [bool; 3] {
        let PageNeeds { waits, letters, changes } = page_needs(subjects, &self.api);
        let all: Vec<Need> = [&waits, &letters, &changes].into_iter().flatten().cloned().collect();
        for need in &all {
            self.refusals.tolerate_too(
                "that the page of the admin server shows or changes what is on the bus",
                &need.probe,
            );
        }
        // Where there is a pool, it is asked for as well.
        let accounts = format!("{}.DIRECT.GET.{}", self.api, subjects.stream_accounts());
        self.refusals.tolerate_too("that the page of the admin server shows a pool's accounts", &accounts);
        let refused = self.refused(&all).await;
        [waits, letters, changes].map(|needs| needs.iter().any(|need| refused.contains(need)))
    }

    /// The permissions of `needs` that this user does not have. Changes nothing.
    pub async fn refused(&self, needs: &[Need]) -> Vec<Need> {
        if needs.is_empty() {
            return Vec::new();
        }
        let mut heard = self.refusals.listen();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Expected-Stream", NO_STREAM);
        let mut subscriptions = Vec::new();
        for need in needs {
            // A message that does not reach the server is not refused by it. Other findings tell that it is away.
            match need.verb {
                Verb::Publish => {
                    let sent =
                        self.client.publish_with_headers(need.probe.clone(), headers.clone(), NOTHING.into());
                    let _ = sent.await;
                }
                Verb::Subscribe => subscriptions.extend(self.client.subscribe(need.probe.clone()).await),
            }
        }
        // The server handles messages in order, so the answer to this one comes last.
        let last = format!("{MARK}.{}", self.client.new_inbox());
        let mut words = Vec::new();
        let end = async {
            let _ = tokio::time::timeout(REQUEST_TIMEOUT, self.client.request(last.clone(), "".into())).await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::pin!(end);
        loop {
            tokio::select! {
                said = heard.next() => {
                    if said.contains(&last) {
                        break;
                    }
                    words.push(said);
                }
                () = &mut end => break,
            }
        }
        let is_refused = |need: &&Need| {
            let verb = match need.verb {
                Verb::Publish => "Publish",
                Verb::Subscribe => "Subscription",
            };
            words.iter().any(|said| said.contains(verb) && said.contains(&format!("\"{}\"", need.probe)))
        };
        needs.iter().filter(is_refused).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: Uses = Uses {
        typing: true,
        fetched: Some(Media { max_bytes: None, sends: true }),
        opt_outs: true,
        sessions: true,
        read: true,
        service: true,
        creates: true,
    };

    /// Everything in quotation marks from `user: <name>` to the next user.
    fn configured(user: &str) -> BTreeSet<String> {
        let text = include_str!("../../deploy/nats/accounts.conf");
        let (_, block) = text.split_once(&format!("user: {user}\n")).expect(user);
        let block = block.split("user: ").next().expect("a block");
        let lines = block.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
    }

    #[test]
    fn the_needs_of_each_role_are_the_permissions_of_its_user() {
        let subjects = Subjects::new("wa").unwrap();
        let account = Account::parse("default").unwrap();
        let of = |role, inbox| -> BTreeSet<String> {
            needs(&subjects, role, ALL, "$JS.API", inbox).into_iter().map(|need| need.subject).collect()
        };
        assert_eq!(of(Role::Edge(&account), "_INBOX_edge_default"), configured("edge"));
        assert_eq!(of(Role::Pool, "_INBOX_pool"), configured("pool"));
        assert_eq!(of(Role::Forwarder, "_INBOX_forwarder"), configured("forwarder"));
    }

    /// So the page needs nothing that the operator's commands do not.
    #[test]
    fn the_page_needs_what_the_operator_has() {
        let PageNeeds { waits, letters, changes } = page_needs(&Subjects::new("wa").unwrap(), "$JS.API");
        let allowed = configured("operator");
        let info = "$JS.API.STREAM.INFO.WA_DLQ"; // Each role has that one.
        let all = [waits, letters, changes].concat();
        let missing: Vec<_> =
            all.iter().filter(|need| !allowed.contains(&need.subject) && need.subject != info).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn a_probe_is_a_subject_without_wildcards_that_its_permission_covers() {
        let subjects = Subjects::new("wa").unwrap();
        for need in needs(&subjects, Role::Forwarder, ALL, "$JS.hub.API", "_INBOX") {
            let covers = |(wanted, token): (&str, &str)| wanted == token || ["*", ">"].contains(&wanted);
            let (wanted, probe) = (need.subject.split('.'), need.probe.split('.'));
            assert!(wanted.zip(probe).all(covers), "{need:?}");
            assert!(need.verb == Verb::Subscribe || !need.probe.contains(['*', '>']), "{need:?}");
        }
    }
}
