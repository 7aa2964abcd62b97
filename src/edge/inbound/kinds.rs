//! Files, places, people, polls, events: what people send each other, read from a message without wrappers. Pure.

use whatsapp_rust::prelude::wa;

use super::bound;
use super::content::words;
use crate::wire::v1::{Album, Contacts, Event, GroupInvite, Location, Media, Poll, inbound_message::Content};

/// What the message is. `None`: nothing of this.
pub(super) fn kind(base: &wa::Message) -> Option<Content> {
    media(base)
        .or_else(|| place(base))
        .or_else(|| contacts(base))
        .or_else(|| poll(base))
        .or_else(|| event(base))
        .or_else(|| album(base))
        .or_else(|| group_invite(base))
}

/// A file that WhatsApp stores.
fn media(base: &wa::Message) -> Option<Content> {
    let media = |mime_type: &Option<String>, size_bytes: Option<u64>| Media {
        caption: bound::text(words(base)),
        mime_type: bound::id(mime_type.as_deref()),
        size_bytes: size_bytes.unwrap_or_default(),
        ..Media::default()
    };
    if let Some(image) = base.image_message.as_option() {
        return Some(Content::Image(Media {
            width: image.width.unwrap_or_default(),
            height: image.height.unwrap_or_default(),
            ..media(&image.mimetype, image.file_length)
        }));
    }
    // A video note is a video in a field of its own.
    let note = base.ptv_message.as_option();
    if let Some(video) = base.video_message.as_option().or(note) {
        return Some(Content::Video(Media {
            gif: video.gif_playback.unwrap_or_default(),
            video_note: base.video_message.as_option().is_none(),
            seconds: video.seconds.unwrap_or_default(),
            width: video.width.unwrap_or_default(),
            height: video.height.unwrap_or_default(),
            ..media(&video.mimetype, video.file_length)
        }));
    }
    // A voice note is an audio message with a flag.
    if let Some(audio) = base.audio_message.as_option() {
        return Some(Content::Audio(Media {
            voice: audio.ptt.unwrap_or_default(),
            seconds: audio.seconds.unwrap_or_default(),
            ..media(&audio.mimetype, audio.file_length)
        }));
    }
    if let Some(sticker) = base.sticker_message.as_option() {
        let moves = [sticker.is_animated, sticker.is_lottie];
        return Some(Content::Sticker(Media {
            animated: moves.contains(&Some(true)),
            width: sticker.width.unwrap_or_default(),
            height: sticker.height.unwrap_or_default(),
            ..media(&sticker.mimetype, sticker.file_length)
        }));
    }
    let document = base.document_message.as_option()?;
    Some(Content::Document(Media {
        file_name: bound::line(document.file_name.as_deref().or(document.title.as_deref())),
        pages: document.page_count.unwrap_or_default(),
        ..media(&document.mimetype, document.file_length)
    }))
}

fn place(base: &wa::Message) -> Option<Content> {
    if let Some(place) = base.location_message.as_option() {
        return Some(Content::Location(location(place)));
    }
    let place = base.live_location_message.as_option()?;
    Some(Content::Location(Location {
        latitude: place.degrees_latitude.unwrap_or_default(),
        longitude: place.degrees_longitude.unwrap_or_default(),
        live: true,
        text: bound::text(place.caption.as_deref()),
        accuracy_m: place.accuracy_in_meters.unwrap_or_default(),
        ..Location::default()
    }))
}

fn location(place: &wa::message::LocationMessage) -> Location {
    Location {
        latitude: place.degrees_latitude.unwrap_or_default(),
        longitude: place.degrees_longitude.unwrap_or_default(),
        name: bound::line(place.name.as_deref()),
        address: bound::line(place.address.as_deref()),
        live: place.is_live.unwrap_or_default(),
        text: bound::text(place.comment.as_deref()),
        url: bound::line(place.url.as_deref()),
        accuracy_m: place.accuracy_in_meters.unwrap_or_default(),
    }
}

fn contacts(base: &wa::Message) -> Option<Content> {
    let one = base.contact_message.as_option();
    let many = base.contacts_array_message.as_option().into_iter().flat_map(|array| &array.contacts);
    let contacts: Vec<_> = one.into_iter().chain(many).collect();
    if contacts.is_empty() {
        return None;
    }
    Some(Content::Contacts(Contacts {
        display_names: bound::list(contacts.iter().filter_map(|contact| contact.display_name.as_deref())),
        vcards: bound::list(contacts.iter().filter_map(|contact| contact.vcard.as_deref())),
    }))
}

/// The poll in a message, whatever its version.
pub(super) fn polled(base: &wa::Message) -> Option<&wa::message::PollCreationMessage> {
    let polls = [
        &base.poll_creation_message,
        &base.poll_creation_message_v2,
        &base.poll_creation_message_v3,
        &base.poll_creation_message_v5,
        &base.poll_creation_message_v6,
    ];
    polls.into_iter().find_map(|poll| poll.as_option())
}

fn poll(base: &wa::Message) -> Option<Content> {
    use wa::message::PollType;
    let poll = polled(base)?;
    Some(Content::Poll(Poll {
        question: bound::text(poll.name.as_deref()),
        options: bound::list(poll.options.iter().filter_map(|option| option.option_name.as_deref())),
        selectable: poll.selectable_options_count.unwrap_or_default(),
        quiz: poll.poll_type == Some(PollType::Quiz),
        correct_option: bound::line(poll.correct_answer.as_option().and_then(|it| it.option_name.as_deref())),
        ends_at_ms: instant_ms(poll.end_time),
    }))
}

fn event(base: &wa::Message) -> Option<Content> {
    let event = base.event_message.as_option()?;
    Some(Content::Event(Event {
        name: bound::line(event.name.as_deref()),
        description: bound::text(event.description.as_deref()),
        starts_at_ms: instant_ms(event.start_time),
        ends_at_ms: instant_ms(event.end_time),
        location: event.location.as_option().map(location),
        join_link: bound::line(event.join_link.as_deref()),
        canceled: event.is_canceled.unwrap_or_default(),
    }))
}

fn album(base: &wa::Message) -> Option<Content> {
    let album = base.album_message.as_option()?;
    Some(Content::Album(Album {
        expected_images: album.expected_image_count.unwrap_or_default(),
        expected_videos: album.expected_video_count.unwrap_or_default(),
    }))
}

fn group_invite(base: &wa::Message) -> Option<Content> {
    let invite = base.group_invite_message.as_option()?;
    Some(Content::GroupInvite(GroupInvite {
        group_jid: bound::id(invite.group_jid.as_deref()),
        code: bound::id(invite.invite_code.as_deref()),
        group_name: bound::line(invite.group_name.as_deref()),
        text: bound::text(invite.caption.as_deref()),
        expires_at_ms: instant_ms(invite.invite_expiration),
    }))
}

/// A phone's time in milliseconds. Phones write seconds, and some kinds and versions milliseconds: no second of this
/// century is as large as a millisecond of it.
fn instant_ms(time: Option<i64>) -> i64 {
    const LARGEST_SECOND: i64 = 100_000_000_000;
    match time.unwrap_or_default() {
        seconds if (1..LARGEST_SECOND).contains(&seconds) => seconds * 1_000,
        ms => ms.max(0),
    }
}

#[cfg(test)]
#[path = "kinds_tests.rs"]
mod tests;
