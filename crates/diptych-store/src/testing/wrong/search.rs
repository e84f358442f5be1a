//! Reads and look-ups of a wrong store.

use super::{EventRow, Flaw, State, WrongStore, broken};
use crate::{
    batch::{Batch, BatchBuilder, Direction, Read},
    error::{InvalidRequest, ReadError},
    event::RawEvent,
    filter::{Filter, FilterItem},
    position::Position,
    tag::Tag,
    time::Timestamp,
};

impl WrongStore {
    pub(super) fn search(&self, filter: &Filter, mut read: Read) -> Result<Batch, ReadError> {
        self.check_filter(filter)?;
        let mut state = self.0.state.lock();
        let head = self.published();
        match self.0.flaw {
            Some(Flaw::EmptyLogIsAnError) if state.events.is_empty() => {
                return Err(broken("the log is empty").into());
            }
            Some(Flaw::AcceptsPositionsAboveTheHead) => read.after = read.after.min(head),
            Some(Flaw::TakesLimitZeroForNone) if read.limit == 0 => read.limit = usize::MAX,
            _ => {}
        }
        let Some((low, high)) = BatchBuilder::range(&read, head)? else {
            return Ok(BatchBuilder::nothing(&read));
        };
        let low = match (self.0.flaw, read.direction) {
            (Some(Flaw::ReadsIncludeAfter), _) => read.after,
            (Some(Flaw::BackwardsForgetsAfter), Direction::Backwards) => Position::new(1),
            _ => low,
        };
        let last = match self.is(Flaw::ReadsExcludeUpto) {
            true => high.before(),
            false => high,
        };
        let found = self.found(&state, filter, (low, last), &read);
        let (builder, cut) = self.batch(&state, &found, &read)?;
        let given = found.get(builder.len().wrapping_sub(1)).map(|stored| stored.position);
        let taken = found.iter().take(builder.len()).map(|stored| stored.position).max();
        let upto = match (cut, read.direction) {
            (Some(position), _) => position,
            (None, Direction::Forwards) => high,
            (None, Direction::Backwards) => low,
        };
        let upto = self.upto(upto, cut.is_some(), given, &read, (low, high));
        state.taken = state.taken.max(taken.unwrap_or_default());
        Ok(builder.finish(upto))
    }

    /// The `upto` of the batch.
    fn upto(
        &self,
        upto: Position,
        cut: bool,
        given: Option<Position>,
        read: &Read,
        (low, high): (Position, Position),
    ) -> Position {
        match (self.0.flaw, read.direction) {
            (Some(Flaw::SaysTheAskedUpto), Direction::Forwards) if !cut => read.upto,
            (Some(Flaw::SaysTheHead), Direction::Forwards) if !cut => self.published(),
            (Some(Flaw::SaysTheLastMatch), Direction::Forwards) => given.unwrap_or(read.after),
            (Some(Flaw::SaysTheLastMatch), Direction::Backwards) => given.unwrap_or(high.plus(1)),
            (Some(Flaw::SaysTheBound), Direction::Forwards) => high,
            (Some(Flaw::SaysTheBound), Direction::Backwards) => low,
            _ => upto,
        }
    }

    fn check_filter(&self, filter: &Filter) -> Result<(), InvalidRequest> {
        let limits = self.enforced();
        filter.check(&limits)?;
        if !self.is(Flaw::FailsOnLongNames) {
            return Ok(());
        }
        let types = filter.items().iter().flat_map(|item| &item.types);
        let longest = types.map(|name| name.len()).max().unwrap_or(0);
        match longest > limits.type_bytes {
            true => {
                Err(InvalidRequest::too_large("type", longest, limits.type_bytes, "type_bytes"))
            }
            false => Ok(()),
        }
    }

    /// The matching events within these bounds, in the order of the read.
    fn found<'a>(
        &self,
        state: &'a State,
        filter: &Filter,
        (low, high): (Position, Position),
        read: &Read,
    ) -> Vec<&'a EventRow> {
        let items = self.understood(state, filter);
        let taken = match self.is(Flaw::ReadsTakeAway) {
            true => state.taken,
            false => Position::START,
        };
        let within =
            |stored: &&EventRow| (low..=high).contains(&stored.position) && stored.position > taken;
        let mut found = Vec::new();
        for stored in state.events.iter().filter(within) {
            let times = self.times_matched(&items, &stored.event);
            found.extend(std::iter::repeat_n(stored, times));
        }
        if self.is(Flaw::SortsPositionsAsText) {
            found.sort_by_key(|stored| stored.position.to_string());
        }
        let backwards = read.direction == Direction::Backwards && !self.is(Flaw::IgnoresDirection);
        if backwards && self.is(Flaw::LimitsBackwardsFromTheLowEnd) {
            found.truncate(read.limit);
        }
        if backwards {
            found.reverse();
        }
        found
    }

    /// Fills a batch with the found events, from the first one on. If not all of them fit, also
    /// returns the position of the last event in the batch.
    fn batch(
        &self,
        state: &State,
        found: &[&EventRow],
        read: &Read,
    ) -> Result<(BatchBuilder, Option<Position>), ReadError> {
        let unlimited = self.is(Flaw::IgnoresBatchLimits);
        let limits = &self.0.limits;
        let (most, most_bytes) = match unlimited {
            true => (read.limit, usize::MAX),
            false => (read.limit.min(limits.batch_events), limits.batch_bytes),
        };
        let most = if self.is(Flaw::IgnoresTheLimit) { usize::MAX } else { most };
        let (mut builder, mut bytes, mut given) = (BatchBuilder::new(), 0, None);
        for stored in found {
            let size = stored.bytes.len();
            if self.is(Flaw::LetsNothingLargeThrough) && size > most_bytes {
                continue;
            }
            let full = builder.len() == most || bytes + size > most_bytes && given.is_some();
            if full {
                let lost = self.is(Flaw::LosesWhatDoesNotFit);
                return Ok((builder, given.filter(|_| !lost)));
            }
            bytes += size;
            let recorded_at = match self.is(Flaw::StampsOnRead) {
                true => stored.recorded_at.as_micros() + state.next as i64,
                false => stored.recorded_at.as_micros(),
            };
            let chunk = builder.chunk(stored.bytes.clone());
            let (recorded_at, end) = (Timestamp::from_micros(recorded_at), size as u32);
            let pushed = builder.push(stored.position, recorded_at, chunk, 0, end);
            pushed.map_err(|error| broken(&error.to_string()))?;
            given = Some(stored.position);
        }
        Ok((builder, None))
    }

    pub(super) fn search_last(
        &self,
        filter: &Filter,
        upto: Position,
    ) -> Result<Option<Position>, ReadError> {
        self.check_filter(filter)?;
        let state = self.0.state.lock();
        let upto = self.looked_up(upto)?;
        let upto = if self.is(Flaw::LastIgnoresUpto) { Position::MAX } else { upto };
        let items = self.understood(&state, filter);
        let matches = |stored: &&EventRow| {
            stored.position <= upto && self.times_matched(&items, &stored.event) > 0
        };
        let mut found = self.window(&state).filter(matches).map(|stored| stored.position);
        Ok(match self.0.flaw {
            Some(Flaw::LastSaysTheFirst) => found.next(),
            Some(Flaw::LastOfNothingIsStart) => Some(found.next_back().unwrap_or_default()),
            _ => found.next_back(),
        })
    }

    pub(super) fn search_count(&self, tag: &Tag, upto: Position) -> Result<u64, ReadError> {
        let state = self.0.state.lock();
        let upto = self.looked_up(upto)?;
        let upto = if self.is(Flaw::CountExcludesUpto) { upto.before() } else { upto };
        let items = [FilterItem::everything().and_tag(tag.clone())];
        let matches = |stored: &&EventRow| self.times_matched(&items, &stored.event) > 0;
        let within = |stored: &&EventRow| stored.position <= upto;
        let tagged = || self.window(&state).filter(matches).filter(within);
        match self.0.flaw {
            Some(Flaw::UnknownTagIsAnError) if tagged().next().is_none() => {
                Err(broken("there is no such tag").into())
            }
            Some(Flaw::CountsCommits) => {
                let mut commits: Vec<_> = tagged().map(|stored| stored.commit).collect();
                commits.dedup();
                Ok(commits.len() as u64)
            }
            Some(Flaw::CountsATagAsOftenAsGiven) => {
                let given = tagged().flat_map(|stored| &stored.tags_as_given);
                Ok(given.filter(|given| *given == tag).count() as u64)
            }
            _ => Ok(tagged().count() as u64),
        }
    }

    pub(super) fn search_types(&self) -> Result<Vec<String>, ReadError> {
        let state = self.0.state.lock();
        let published = self.published();
        let stored = state.events.iter().filter(|stored| stored.position <= published);
        let mut types: Vec<_> = stored.map(|stored| stored.event.event_type.to_string()).collect();
        if !self.is(Flaw::TypesAsOftenAsWritten) {
            types.sort_unstable();
            types.dedup();
        }
        if self.is(Flaw::TypesOfTheNewest) {
            let newest = state.events.last().map(|stored| stored.event.event_type.to_string());
            types.retain(|name| newest.as_ref() == Some(name));
        }
        Ok(types)
    }

    /// The last position that a look-up considers.
    fn looked_up(&self, upto: Position) -> Result<Position, ReadError> {
        let head = self.published();
        if upto > head && self.is(Flaw::RefusesLookUpsAboveTheHead) {
            return Err(InvalidRequest::AboveHead { position: upto, head }.into());
        }
        Ok(upto.min(head))
    }

    fn window<'a>(&self, state: &'a State) -> impl DoubleEndedIterator<Item = &'a EventRow> {
        let skipped = match self.is(Flaw::LooksUpTheNewest1000) {
            true => state.events.len().saturating_sub(1_000),
            false => 0,
        };
        state.events.iter().skip(skipped)
    }

    /// The items of a filter as this store understands them.
    pub(super) fn understood(&self, state: &State, filter: &Filter) -> Vec<FilterItem> {
        let mut items = filter.items().to_vec();
        match self.0.flaw {
            Some(Flaw::TakesTheFirstItemOnly) => items.truncate(1),
            Some(Flaw::NothingMatchesEverything) if items.is_empty() => {
                items.push(FilterItem::everything());
            }
            Some(Flaw::MixesItems) if items.iter().all(|item| !item.types.is_empty()) => {
                let pool: Vec<_> = items.iter().flat_map(|item| item.types.clone()).collect();
                items.iter_mut().for_each(|item| item.types = pool.clone());
            }
            Some(Flaw::LeavesOutUnknownTerms) => {
                let events = || state.events.iter().map(|stored| &stored.event);
                for item in &mut items {
                    item.types.retain(|name| events().any(|event| event.event_type == *name));
                    item.tags.retain(|tag| events().any(|event| event.tags.contains(tag)));
                }
            }
            _ => {}
        }
        items
    }

    /// The number of times that a read returns the event: 0 or 1 in a store that is right.
    pub(super) fn times_matched(&self, items: &[FilterItem], event: &RawEvent) -> usize {
        let matched = items.iter().filter(|item| self.matches(item, event)).count();
        match self.is(Flaw::RepeatsOverlaps) {
            true => matched,
            false => matched.min(1),
        }
    }

    fn matches(&self, item: &FilterItem, event: &RawEvent) -> bool {
        if item.is_everything() {
            return !self.is(Flaw::EverythingMatchesNothing);
        }
        let has = |tag: &Tag| match self.0.flaw {
            Some(Flaw::FindsTagsByPrefix) => {
                event.tags.iter().any(|has| has.as_str().starts_with(tag.as_str()))
            }
            Some(Flaw::IndexesFourTags) => event.tags.iter().take(4).any(|has| has == tag),
            Some(Flaw::TakesTypesForTags) => {
                event.tags.contains(tag) || event.event_type == tag.as_str()
            }
            _ => event.tags.contains(tag),
        };
        let is = |name: &str| event.event_type == name;
        let typed = match self.0.flaw {
            Some(Flaw::NeedsEveryType) => item.types.iter().all(|name| is(name)),
            Some(Flaw::IgnoresTypesWhereThereAreTags) if !item.tags.is_empty() => true,
            _ => item.types.is_empty() || item.types.iter().any(|name| is(name)),
        };
        let tagged = match self.0.flaw {
            Some(Flaw::TakesAnyTag) => item.tags.is_empty() || item.tags.iter().any(has),
            Some(Flaw::CountsTagsToCompare) => {
                let common = event.tags.iter().filter(|tag| item.tags.contains(tag));
                common.count() == item.tags.len()
            }
            _ => item.tags.iter().all(has),
        };
        typed && tagged
    }
}
