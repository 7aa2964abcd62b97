//! Whether options go out as WhatsApp's own buttons and lists, and for how long not once WhatsApp has refused them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::metrics;

/// How options are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interactive {
    /// As numbered text.
    #[default]
    Text,
    /// As WhatsApp's own buttons and lists, where they fit.
    Native,
}

/// For how long they go out as text after WhatsApp has refused their shape. Who sends again and again what is refused stands
/// out.
const REST: Duration = Duration::from_secs(3_600);

/// What is known of WhatsApp's mind.
#[derive(Debug)]
pub(super) struct Native {
    wanted: Interactive,
    /// Until when not: to persons, in groups.
    rests_until: Mutex<[Option<Instant>; 2]>,
}

impl Native {
    /// Nothing was refused yet.
    pub(super) fn new(wanted: Interactive) -> Self {
        Self { wanted, rests_until: Mutex::default() }
    }

    /// Is it worth trying now?
    pub(super) fn is_tried(&self, in_group: bool, now: Instant) -> bool {
        let [person, group] = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        let until = if in_group { group } else { person };
        self.wanted == Interactive::Native && until.is_none_or(|until| now >= until)
    }

    /// WhatsApp has refused one with this code, and it goes out as text. Only its first refusal of the shape is worth an
    /// operator's time.
    pub(super) fn refused(&self, in_group: bool, code: &str, now: Instant) {
        metrics::RESENDS.add(1, ["as-text"]);
        if !is_about_shape(code) || !self.is_tried(in_group, now) {
            tracing::info!(code, "WhatsApp refused a message with buttons; it is sent as text");
            return;
        }
        let mut rests_until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        let [person, group] = &mut *rests_until;
        let until = if in_group { group } else { person };
        let is_first = until.replace(now + REST).is_none();
        if is_first {
            tracing::warn!(
                code,
                in_group,
                "WhatsApp does not take native buttons and lists from this number; options are numbered text, and it is asked again once an hour"
            );
        } else {
            tracing::info!(code, in_group, "WhatsApp still does not take native buttons and lists");
        }
    }
}

/// Does WhatsApp refuse with this code what the message is, and not whom it goes to?
fn is_about_shape(code: &str) -> bool {
    matches!(code, "405" | "473" | "479")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_shape_rests_for_an_hour_where_it_was_refused() {
        let (native, now) = (Native::new(Interactive::Native), Instant::now());
        native.refused(false, "500", now);
        assert!(native.is_tried(false, now), "that says nothing of the shape");
        native.refused(false, "479", now);
        assert!(!native.is_tried(false, now) && native.is_tried(true, now));
        assert!(!native.is_tried(false, now + REST - Duration::from_millis(1)));
        assert!(native.is_tried(false, now + REST));
        native.refused(true, "405", now + REST);
        assert!(native.is_tried(false, now + REST) && !native.is_tried(true, now + REST));
        assert!(!Native::new(Interactive::Text).is_tried(false, now));
    }
}
