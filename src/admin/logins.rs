//! The rate limit for wrong logins. Pure: the time comes from outside.
//!
//! The whole server accepts at most 100 wrong logins in any minute. A login over the limit is not checked, even if its
//! token is right: if the answer told the right token from a wrong one, there would be no limit. An attacker must not
//! lock the operator out, so each source has a share:
//!
//! - the network has 90 a minute, and each address at most 10 of them;
//! - loopback has 10 a minute of its own. SSH tunnels and port-forwards come from there, so they still work while many
//!   addresses guess at once.
//!
//! Only a client with the attacker's address (both behind one proxy) waits with the attacker.
//!
//! governor's limiters do not fit: a right login costs nothing here, and they charge for every question.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
/// Half of what is allowed in a minute: a full bucket holds this many, and as many more come back within a minute.
const NETWORK: u32 = 45;
const LOOPBACK: u32 = 5;
const ADDRESS: u32 = 5;
/// When the table has more addresses than this, those whose bucket is full again are removed. The rest is bounded: at
/// most one for each wrong login that the network may make in two minutes.
const ADDRESSES: usize = 256;

/// The answer to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The right token.
    Right,
    /// A wrong token.
    Wrong,
    /// Over the limit, so not checked. The client may try again later.
    Later {
        /// The client has to wait at least this long.
        wait: Duration,
        /// It is time for a line in the log.
        tell: bool,
    },
}

/// The recent wrong logins.
#[derive(Debug)]
pub(super) struct Logins {
    network: Bucket,
    loopback: Bucket,
    addresses: HashMap<IpAddr, Bucket>,
    told: Option<Instant>,
}

impl Logins {
    /// None yet.
    pub(super) fn new(now: Instant) -> Self {
        let full = Bucket { full: now };
        Self { network: full, loopback: full, addresses: HashMap::new(), told: None }
    }

    /// Judges a login from `ip`. Over the limit, the answer does not depend on `right`.
    pub(super) fn judge(&mut self, ip: IpAddr, right: bool, now: Instant) -> Verdict {
        let source = source(ip);
        let wait = if source.is_loopback() {
            self.loopback.wait(LOOPBACK, now)
        } else {
            let own = self.addresses.get(&source).map_or(Duration::ZERO, |own| own.wait(ADDRESS, now));
            own.max(self.network.wait(NETWORK, now))
        };
        if !wait.is_zero() {
            let tell = self.told.is_none_or(|told| now.duration_since(told) >= MINUTE);
            if tell {
                self.told = Some(now);
            }
            return Verdict::Later { wait, tell };
        }
        if right {
            return Verdict::Right;
        }
        if source.is_loopback() {
            self.loopback.take(LOOPBACK, now);
        } else {
            self.network.take(NETWORK, now);
            self.addresses.entry(source).or_insert(Bucket { full: now }).take(ADDRESS, now);
            if self.addresses.len() > ADDRESSES {
                self.addresses.retain(|_, bucket| bucket.full > now);
            }
        }
        Verdict::Wrong
    }
}

/// The source of a login. All loopback addresses are one source, and so is each /64 network of IPv6: one host may have
/// all of it.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        ip if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => {
            let net = ip.segments();
            [net[0], net[1], net[2], net[3], 0, 0, 0, 0].into()
        }
    }
}

/// A bucket that fills evenly, within a minute.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When it is full again.
    full: Instant,
}

impl Bucket {
    /// How long until one of the `holds` is in it.
    fn wait(&self, holds: u32, now: Instant) -> Duration {
        (self.full.saturating_duration_since(now) + MINUTE / holds).saturating_sub(MINUTE)
    }

    fn take(&mut self, holds: u32, now: Instant) {
        self.full = self.full.max(now) + MINUTE / holds;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Wrong logins from each of these, as often as they are looked at.
    fn wrong(logins: &mut Logins, from: &str, now: Instant) -> usize {
        (0..1_000).take_while(|_| logins.judge(ip(from), false, now) == Verdict::Wrong).count()
    }

    fn right(logins: &mut Logins, from: &str, now: Instant) -> bool {
        logins.judge(ip(from), true, now) == Verdict::Right
    }

    #[test]
    fn a_guesser_locks_out_himself_and_nobody_else() {
        let now = Instant::now();
        let mut logins = Logins::new(now);
        assert_eq!(wrong(&mut logins, "198.51.100.1", now), 5);
        assert!(!right(&mut logins, "198.51.100.1", now), "the right token waits as any other");
        assert!(!right(&mut logins, "::ffff:198.51.100.1", now), "the same host");
        assert!(right(&mut logins, "198.51.100.2", now) && right(&mut logins, "127.0.0.1", now));
        let soon = now + Duration::from_secs(12);
        assert!(right(&mut logins, "198.51.100.1", soon));
        assert_eq!(wrong(&mut logins, "198.51.100.1", soon), 1);
    }

    #[test]
    fn a_host_of_ipv6_is_one_whatever_address_it_takes() {
        let now = Instant::now();
        let mut logins = Logins::new(now);
        assert_eq!(wrong(&mut logins, "2001:db8::1", now), 5);
        assert_eq!(wrong(&mut logins, "2001:db8::2", now), 0);
        assert_eq!(wrong(&mut logins, "2001:db8:0:1::1", now), 5);
    }

    #[test]
    fn when_everybody_guesses_loopback_still_gets_in() {
        let now = Instant::now();
        let mut logins = Logins::new(now);
        let all: usize = (0..200).map(|n| wrong(&mut logins, &format!("198.51.100.{n}"), now)).sum();
        assert_eq!(all, 45);
        assert!(!right(&mut logins, "203.0.113.1", now));
        assert!(right(&mut logins, "::1", now));
        assert_eq!(wrong(&mut logins, "::1", now), 5);
        assert_eq!(wrong(&mut logins, "127.0.0.2", now), 0);
    }

    #[test]
    fn right_logins_cost_nothing_and_the_log_is_told_once_a_minute() {
        let now = Instant::now();
        let mut logins = Logins::new(now);
        assert!((0..1_000).all(|_| right(&mut logins, "198.51.100.1", now)));
        let told = |logins: &mut Logins, now| {
            wrong(logins, "127.0.0.1", now);
            let later = (0..10).map(|_| logins.judge(ip("127.0.0.1"), false, now));
            later.filter(|verdict| matches!(verdict, Verdict::Later { tell: true, .. })).count()
        };
        // The first that is too many was told of by `wrong`.
        assert_eq!(told(&mut logins, now), 0);
        assert_eq!(told(&mut logins, now + Duration::from_secs(59)), 0);
        assert!(logins.told.is_some_and(|told| told == now));
        let later = now + MINUTE;
        let verdict =
            (0..100).map(|_| logins.judge(ip("127.0.0.1"), false, later)).find(|v| *v != Verdict::Wrong);
        assert!(matches!(verdict, Some(Verdict::Later { tell: true, .. })), "{verdict:?}");
    }

    proptest! {
        /// And the table does not grow with the number of addresses that guess.
        #[test]
        fn no_minute_has_more_than_a_hundred_wrong_logins(
            tries in prop::collection::vec((0u64..1_500, 0u32..400, any::<bool>()), 1..2_000),
        ) {
            let mut now = Instant::now();
            let mut logins = Logins::new(now);
            let mut looked_at = VecDeque::new();
            for (pause, address, local) in tries {
                now += Duration::from_millis(pause);
                let from = if local { ip("127.0.0.1") } else { Ipv4Addr::from(0x0a00_0000 + address).into() };
                if logins.judge(from, false, now) == Verdict::Wrong {
                    looked_at.push_back(now);
                }
                looked_at.retain(|at| now.duration_since(*at) < MINUTE);
                prop_assert!(looked_at.len() <= 100, "{}", looked_at.len());
                prop_assert!(logins.addresses.len() <= ADDRESSES);
            }
        }
    }
}
