//! An event in as little memory as it takes: most of those that are kept are never asked for.

use base::clock::Timestamp;

use super::{Event, EventKind};

/// An event whose text is one piece.
#[derive(Debug)]
pub(super) struct Packed {
    at: Timestamp,
    kind: EventKind,
    /// Action, actor, and the attributes' names and values.
    text: Box<str>,
    /// Bytes of each of them.
    lengths: Box<[u32]>,
}

impl Packed {
    pub(super) fn of(event: &Event) -> Packed {
        let attributes = event.attributes.iter().flat_map(|(name, value)| [name, value]);
        let parts = || [&event.action, &event.actor].into_iter().chain(attributes.clone());
        let mut text = String::with_capacity(parts().map(String::len).sum());
        parts().for_each(|part| text.push_str(part));
        let length = |part: &String| u32::try_from(part.len()).unwrap_or(u32::MAX);
        let lengths = parts().map(length).collect();
        Packed { at: event.at, kind: event.kind, text: text.into(), lengths }
    }

    pub(super) fn unpack(&self) -> Event {
        let mut rest = &*self.text;
        let mut parts = self.lengths.iter().map(|length| {
            let (part, more) = rest.split_at(usize::try_from(*length).unwrap_or(usize::MAX));
            rest = more;
            part.to_owned()
        });
        let mut next = || parts.next();
        let (action, actor) = (next().unwrap_or_default(), next().unwrap_or_default());
        let attributes = std::iter::from_fn(|| Some((next()?, next()?))).collect();
        Event { at: self.at, kind: self.kind, action, actor, attributes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_unpacked_is_what_was_packed(
            action in "\\PC{0,8}",
            actor in "\\PC{0,70}",
            attributes in proptest::collection::btree_map("\\PC{0,9}", "\\PC{0,9}", 0..5),
        ) {
            let event =
                Event { at: Timestamp(7), kind: EventKind::Image, action, actor, attributes };
            prop_assert_eq!(Packed::of(&event).unpack(), event);
        }
    }
}
