//! May what is in a place be written over? Pure.

use super::marker::{Marker, Way};
use super::rows::Rows;
use super::{Allowed, MoveError, Store};
use crate::wire::header::rfc3339_ms;

/// What is in a place.
pub(super) struct There<'a> {
    /// Where.
    pub(super) store: Store,
    /// The marker.
    pub(super) marker: Option<&'a Marker>,
    /// The session, if a number is linked.
    pub(super) rows: Option<&'a Rows>,
    /// When it was written last, in milliseconds since 1970; 0: nobody knows.
    pub(super) written_ms: i64,
}

impl There<'_> {
    /// What is lost if it is written over by what comes from `other`, and since when it was as it is. `None`: nothing.
    fn what(&self, other: &str) -> Option<(String, i64)> {
        // What the same place has sent, or was given, is its own to send again.
        let marker = self.marker.filter(|marker| marker.other != other);
        match (marker, self.marker, self.rows) {
            (Some(Marker { way: Way::Away, other, at_ms, .. }), ..) => {
                let at = rfc3339_ms(*at_ms);
                Some((
                    format!(
                        "nothing but the word that the session was moved to {other} at {at}, and is used there"
                    ),
                    *at_ms,
                ))
            }
            (Some(Marker { way: Way::Coming, other, at_ms, .. }), ..) => {
                let at = rfc3339_ms(*at_ms);
                Some((format!("a part of a session that is on its way from {other} since {at}"), *at_ms))
            }
            // Nobody uses what is beside a marker.
            (None, Some(_), _) | (None, None, None) => None,
            (None, None, Some(rows)) => {
                let linked = rows.linked().unwrap_or_default();
                let mut what = format!("a session of {} values, linked as {linked}", rows.len());
                if self.written_ms > 0 {
                    what.push_str(&format!(", written last at {}", rfc3339_ms(self.written_ms)));
                }
                Some((what, self.written_ms))
            }
        }
    }

    /// May a session be moved here from `other`?
    pub(super) fn may_be_moved_over(&self, other: &str, allowed: Allowed) -> Result<(), MoveError> {
        match self.what(other) {
            Some((what, _)) if !allowed.replace => Err(MoveError::There { place: self.store.name(), what }),
            _ => Ok(()),
        }
    }

    /// May an export be put here that has these rows, and was made at this time?
    pub(super) fn may_be_imported_over(
        &self,
        (rows, at_ms): (&Rows, i64),
        other: &str,
        allowed: Allowed,
    ) -> Result<(), MoveError> {
        let Some((what, written_ms)) = self.what(other) else { return Ok(()) };
        let place = self.store.name();
        let is_the_same = self.marker.is_none() && self.rows == Some(rows);
        if !is_the_same && written_ms > at_ms && !(allowed.replace && allowed.go_back) {
            return Err(MoveError::Newer { place, what, exported: rfc3339_ms(at_ms) });
        }
        if allowed.replace || is_the_same { Ok(()) } else { Err(MoveError::There { place, what }) }
    }
}

#[cfg(test)]
mod tests {
    use whatsapp_rust::bytes::Bytes;

    use super::*;

    fn marker(way: Way, other: &str) -> Marker {
        Marker { id: "7".to_owned(), way, other: other.to_owned(), at_ms: 500 }
    }

    fn rows(value: &'static str) -> Rows {
        Rows::of([(Bytes::from("ta\0key"), Bytes::from(value))])
    }

    const YES: Allowed = Allowed { replace: true, go_back: false };
    const BACK: Allowed = Allowed { replace: true, go_back: true };

    #[test]
    fn a_session_or_word_of_one_is_replaced_only_if_that_is_said() {
        let session = rows("1");
        let (away, coming) = (marker(Way::Away, "a:/b"), marker(Way::Coming, "a:/b"));
        for (marker, rows, other, free) in [
            (None, None, "a:/b", true),
            (None, Some(&session), "a:/b", false),
            // Back to where it came from, or once more from there.
            (Some(&away), None, "a:/b", true),
            (Some(&coming), Some(&session), "a:/b", true),
            (Some(&away), None, "c:/d", false),
            (Some(&coming), Some(&session), "c:/d", false),
        ] {
            let there = There { store: Store::Nats, marker, rows, written_ms: 0 };
            let refused = there.may_be_moved_over(other, Allowed::default());
            assert_eq!(refused.is_ok(), free, "{refused:?}");
            assert!(there.may_be_moved_over(other, YES).is_ok());
        }
    }

    #[test]
    fn an_export_that_is_older_than_what_is_there_takes_another_word() {
        let (old, new) = (rows("1"), rows("2"));
        let away = marker(Way::Away, "a:/b");
        let there = |marker, rows, written_ms| There { store: Store::Nats, marker, rows, written_ms };
        for (there, at_ms, plain, yes) in [
            (there(None, None, 0), 1, "ok", "ok"),
            (there(None, Some(&new), 500), 400, "newer", "newer"),
            (there(None, Some(&new), 500), 600, "there", "ok"),
            // Nothing has happened since, whatever the clocks say.
            (there(None, Some(&old), 500), 400, "ok", "ok"),
            (there(Some(&away), None, 0), 400, "newer", "newer"),
            (there(Some(&away), None, 0), 600, "there", "ok"),
        ] {
            let judge = |allowed| match there.may_be_imported_over((&old, at_ms), "an export", allowed) {
                Ok(()) => "ok",
                Err(MoveError::Newer { .. }) => "newer",
                Err(_) => "there",
            };
            assert_eq!((judge(Allowed::default()), judge(YES), judge(BACK)), (plain, yes, "ok"));
        }
    }
}
