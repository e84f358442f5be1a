//! The checks of a page: a source can send an event twice, out of order, or leave one out.

use diptych_store::Position;

use super::{
    cloud_event::{CloudEvent, EventPlace},
    page::{FeedError, FeedPage},
};

impl FeedPage {
    /// The page that was asked for after this position, if no event is missing in it. Events that
    /// were sent twice are left out.
    ///
    /// # Errors
    /// [`FeedError::Unreachable`] if an event is missing or out of place, and
    /// [`FeedError::Malformed`] if one has no place.
    pub fn checked(self, after: Position) -> Result<FeedPage, FeedError> {
        let FeedPage { log, upto, head, .. } = self;
        let events = new_events(self, after)?.into_iter().map(|(_, event)| event).collect();
        Ok(FeedPage { log, events, upto, head })
    }
}

/// The new events of a page, each with its place.
///
/// # Errors
/// [`FeedError::Unreachable`] if an event is missing before one of them, and
/// [`FeedError::Malformed`] if one has no place.
pub(super) fn new_events(
    page: FeedPage,
    after: Position,
) -> Result<Vec<(EventPlace, CloudEvent)>, FeedError> {
    let unusable = |reason: String| FeedError::Unreachable { reason };
    let FeedPage { events, upto, .. } = page;
    if upto < after {
        return Err(unusable(format!("its page goes up to {upto} and was asked after {after}")));
    }
    let mut last: Option<EventPlace> = None;
    let mut taken = Vec::new();
    for event in events {
        let place = event.place()?;
        if place.position > upto {
            let position = place.position;
            return Err(unusable(format!("an event at {position} is beyond its page, {upto}")));
        }
        // An event that was sent twice does no harm.
        if place.position <= after || last.is_some_and(|last| place <= last) {
            continue;
        }
        let previous = event.previous_position()?;
        let follows = match last {
            Some(last) if last.position == place.position => place.part == last.part + 1,
            Some(last) => previous == last.position && place.part == 0,
            None => previous <= after && place.part == 0,
        };
        if !follows {
            let known = last.map_or(after, |last| last.position);
            return Err(unusable(format!(
                "an event is missing: {} comes after {previous}, and the last known one is {known}",
                event.id
            )));
        }
        last = Some(place);
        taken.push((place, event));
    }
    Ok(taken)
}
