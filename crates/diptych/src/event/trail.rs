//! The way of a cause through services: how many feeds it came through, and which.
//!
//! The log keeps it in the metadata of the events that an intake writes. Whatever they cause
//! carries it on: commands of processes, and commands that [name their
//! cause](crate::Execute::caused_by).

use diptych_store::Metadata;

/// Extra metadata: the number of feeds through which the cause of an event came.
const HOPS: &str = "diptych:hops";
/// Extra metadata: the last of these feeds, separated by spaces.
const VIA: &str = "diptych:via";
/// The number of feeds that a trail names. Two are enough to see who answers whom.
const NAMED: usize = 4;

/// The feeds through which the cause of an event came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trail {
    pub(crate) hops: u32,
    /// The names of the last of them, separated by spaces.
    pub(crate) via: String,
}

impl Trail {
    /// The trail that an event carries.
    pub(crate) fn of(metadata: &Metadata) -> Trail {
        let hops = metadata.extra.get(HOPS).and_then(|hops| hops.parse().ok()).unwrap_or(0);
        let via = metadata.extra.get(VIA).map(ToString::to_string).unwrap_or_default();
        Trail { hops, via }
    }

    /// Copies the trail of a cause to the metadata of its effect.
    pub(crate) fn carry(cause: &Metadata, effect: &mut Metadata) {
        for name in [HOPS, VIA] {
            if let Some(value) = cause.extra.get(name) {
                effect.extra.insert(name.into(), value.clone());
            }
        }
    }

    /// Whether extra metadata of this name belongs to a trail.
    pub(crate) fn is_part(name: &str) -> bool {
        name == HOPS || name == VIA
    }

    /// The trail behind one more feed.
    #[must_use]
    pub(crate) fn through(&self, feed: &str) -> Trail {
        let earlier: Vec<_> = self.via.split_ascii_whitespace().collect();
        let left_out = earlier.len().saturating_sub(NAMED - 1);
        let named: Vec<_> = earlier.into_iter().skip(left_out).chain([feed]).collect();
        Trail { hops: self.hops.saturating_add(1), via: named.join(" ") }
    }

    pub(crate) fn write(&self, metadata: &mut Metadata) {
        metadata.extra.insert(HOPS.into(), self.hops.to_string().into());
        metadata.extra.insert(VIA.into(), self.via.as_str().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_counts_all_feeds_and_names_the_last() {
        let trail = ["a", "b", "c", "d", "e"]
            .iter()
            .fold(Trail::default(), |trail, feed| trail.through(feed));
        assert_eq!(trail, Trail { hops: 5, via: "b c d e".to_owned() });
        let (mut cause, mut effect) = (Metadata::default(), Metadata::default());
        trail.write(&mut cause);
        cause.extra.insert("other".into(), "x".into());
        Trail::carry(&cause, &mut effect);
        assert_eq!(Trail::of(&effect), trail);
        assert_eq!(effect.extra.len(), 2);
    }
}
