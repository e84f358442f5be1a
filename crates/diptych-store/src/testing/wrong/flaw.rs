//! Flaws of stores. Each one is a mistake that is easy to make.

macro_rules! flaws {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One mistake in a store.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Flaw {
            $($(#[$doc])* $name,)*
        }

        impl Flaw {
            /// All flaws.
            pub const ALL: &[Flaw] = &[$(Flaw::$name),*];
        }
    };
}

flaws! {
    // Writing.
    /// Every commit skips a position.
    LeavesGaps,
    /// Events of a commit are written in reverse order.
    ReversesCommits,
    /// A commit loses all but its first 1,000 events.
    CutsLargeCommits,
    /// An append returns positions that are one too high.
    AnswersOnePositionTooHigh,
    /// An append without events returns positions 0 and 0.
    AnswersZeroWithoutEvents,
    /// A commit without events writes a marker into the log.
    WritesEmptyCommits,
    /// Metadata is not stored.
    ForgetsMetadata,
    /// An instant of occurrence outside of the calendar becomes the nearest one inside.
    MovesTimesIntoTheCalendar,
    /// A payload is stored only up to its first NUL.
    EndsPayloadsAtNul,
    /// Tags are stored in the order of their text.
    SortsTags,
    /// A tag with an empty value is not stored.
    DropsTagsWithoutValue,
    /// Events are written before the checks, and stay after a refusal.
    WritesBeforeItChecks,
    /// A commit with an invalid event writes the events before it.
    WritesUpToTheInvalidEvent,
    /// An append that is dropped while it waits leaves its first event.
    WritesInTwoSteps,
    /// After a refusal the store accepts no more commits.
    FailsAfterARefusal,

    // Publishing.
    /// The sync of a commit never ends.
    NeverSyncs,
    /// A commit is synced at once, but published with the next one.
    PublishesOneCommitLate,
    /// The head moves before the events are written.
    PublishesBeforeItWrites,
    /// The head moves with every event of a commit.
    PublishesEventByEvent,
    /// Positions are assigned in order, but written in any order.
    FillsGapsLater,
    /// The head is the number of commits.
    HeadCountsCommits,
    /// The head is ten above the last event.
    HeadRunsAhead,
    /// A head that was handed out does not move.
    HeadIsACopy,
    /// Every second head is one position too low.
    HeadGoesBack,

    // Identity.
    /// A fresh log has an event that the store wrote itself.
    StartsWithAnEvent,
    /// Each call returns another identity.
    IdentityChanges,
    /// All logs have the same identity.
    IdentityIsTheSameEverywhere,
    /// All logs share their events.
    SharesOneLog,

    // Parallel commits.
    /// The log can change between the checks and the write.
    ChecksBeforeTheLock,
    /// The log can change between the choice of positions and the write.
    TakesPositionsBeforeTheLock,
    /// The time is taken before the position.
    TakesTimeBeforeTheLock,
    /// Other commits can get in between the events of a commit.
    WritesEventByEvent,

    // Checks.
    /// A commit without events is not checked.
    SkipsChecksWithoutEvents,
    /// The key is checked before tracking.
    ChecksKeyFirst,
    /// The condition is checked before tracking and key.
    ChecksConditionFirst,
    /// The condition of a commit with a free key is not checked.
    SkipsTheConditionUnderAKey,
    /// Checks see the log without its newest commit.
    ChecksMissTheNewestCommit,
    /// The key of a refused commit is stored.
    KeepsTheKeyOfARefusedCommit,
    /// The tracking of a refused commit is stored.
    KeepsTheTrackingOfARefusedCommit,
    /// The time of a refused commit becomes the last recorded time.
    KeepsTheTimeOfARefusedCommit,

    // Conditions.
    /// Conditions are not checked.
    IgnoresConditions,
    /// A condition matches every event, with any filter.
    TakesEveryConditionForEverything,
    /// A match at the condition's position is a conflict.
    ConditionsIncludeTheirPosition,
    /// A match just after the condition's position is no conflict.
    ConditionsSkipOne,
    /// A condition considers only the newest 100 events.
    ConditionsSeeTheNewest100,
    /// A conflict names the first match.
    ConflictsNameTheFirstMatch,
    /// A condition holds only if its position is that of the last match.
    TakesThePositionForAVersion,
    /// A commit conflicts with its own events.
    ChecksItsOwnEvents,
    /// Conditions after the first are not considered.
    ChecksTheFirstConditionOnly,
    /// A commit is refused only if all its conditions are violated.
    RefusesOnlyIfAllAreViolated,
    /// Every condition uses the lowest position of all conditions.
    TakesTheLowestPositionForAll,
    /// Every condition uses the highest position of all conditions.
    TakesTheHighestPositionForAll,
    /// A conflict names the match of the first violated condition.
    ConflictsNameTheFirstViolation,
    /// A conflict names the position of the first condition.
    ConflictsNameTheFirstPosition,
    /// Conditions after the first see the log without its newest commit.
    LaterConditionsMissTheNewestCommit,
    /// A position above the head is treated as the head.
    AcceptsPositionsAboveTheHead,

    // Keys.
    /// Keys are not stored.
    ForgetsKeys,
    /// Only the newest 100 keys are remembered.
    ForgetsOldKeys,
    /// A key finds only the first event of its commit.
    KeysFindTheFirstEventOnly,
    /// The refusal of a key names the head instead of the commit.
    KeyRefusalsSayTheHead,
    /// Keys are compared without case.
    KeysIgnoreCase,
    /// A different request under a used key is treated as a repeated one.
    IgnoresDigests,
    /// Only the first eight bytes of a digest are compared.
    ComparesHalfADigest,
    /// A key without events is ignored instead of refused.
    AcceptsKeysWithoutEvents,
    /// An empty name is replaced by a question mark.
    AcceptsEmptyNames,
    /// A tag of the same text counts as a used key.
    TakesTagsForKeys,

    // Tracking.
    /// Tracking without events is not stored.
    TracksOnlyWithEvents,
    /// The origin of a source is not stored.
    TracksWithoutOrigin,
    /// The origin of a source is not compared.
    IgnoresOrigins,
    /// The stored position of a source is accepted again.
    TakesTheSamePositionAgain,
    /// A position of a source is accepted only if it is one above the stored one.
    NeedsTheNextPosition,
    /// A tracking refusal names the current head instead of that of the import.
    TrackingRefusalsSayTheHead,
    /// All sources share their tracking.
    TracksAllSourcesTogether,

    // Filters.
    /// An item with two types matches no event.
    NeedsEveryType,
    /// An item matches any of its tags.
    TakesAnyTag,
    /// An item compares the number of matching tags, so a repeated tag matches nothing.
    CountsTagsToCompare,
    /// An item with tags matches every type.
    IgnoresTypesWhereThereAreTags,
    /// Items after the first are not considered.
    TakesTheFirstItemOnly,
    /// Types of one item are combined with tags of another.
    MixesItems,
    /// An event is returned once for each item that it matches.
    RepeatsOverlaps,
    /// An item without types and tags matches no event.
    EverythingMatchesNothing,
    /// A filter without items matches every event.
    NothingMatchesEverything,
    /// Types and tags that no event has are removed from a filter.
    LeavesOutUnknownTerms,
    /// A tag matches all tags that begin with its text.
    FindsTagsByPrefix,
    /// A tag matches a type of the same text.
    TakesTypesForTags,
    /// An event is found only by its first four tags.
    IndexesFourTags,

    // Reads.
    /// Positions are sorted as text: 10 comes before 2.
    SortsPositionsAsText,
    /// A backward read returns events in forward order.
    IgnoresDirection,
    /// The event at `after` is returned.
    ReadsIncludeAfter,
    /// The event at `upto` is not returned.
    ReadsExcludeUpto,
    /// A backward read ignores `after`.
    BackwardsForgetsAfter,
    /// A read ignores its limit.
    IgnoresTheLimit,
    /// The limit of a backward read counts from the low end.
    LimitsBackwardsFromTheLowEnd,
    /// Limit 0 means no limit.
    TakesLimitZeroForNone,
    /// The `upto` of a batch is that of its read, also above the head.
    SaysTheAskedUpto,
    /// The `upto` of a batch is the head, also beyond the `upto` of its read.
    SaysTheHead,
    /// The `upto` of a batch is its last event. An empty batch makes no progress.
    SaysTheLastMatch,
    /// The `upto` of a batch that was cut short is the end of its read.
    SaysTheBound,
    /// An event that was read is not returned again.
    ReadsTakeAway,
    /// A read of an empty log is an error.
    EmptyLogIsAnError,
    /// A long name in a filter is an error.
    FailsOnLongNames,

    // Numbers.
    /// Conditions miss events with more than eight tags.
    ConditionsMissEventsOf9Tags,
    /// Conditions miss events with more than 32 tags.
    ConditionsMissEventsOf33Tags,
    /// `count` considers only the first four tags of an event.
    CountsFourTags,
    /// Only the first 16 conditions of a commit are checked.
    Checks16Conditions,
    /// Only the first 16 items of a filter are considered.
    Takes16Items,
    /// Only the first 16 types of an item are considered.
    Takes16Types,
    /// Only the first eight tags of an item are compared.
    ComparesEightTags,
    /// A backward read with a limit above 40 counts it from the low end.
    LimitsAbove40FromTheLowEnd,
    /// A conflict that is more than 64 positions below the head names the event after it.
    FarConflictsNameTheNextEvent,
    /// `count` is never more than 255.
    CountsUpTo255,
    /// `types` lists at most 100 types.
    Lists100Types,
    /// A payload is stored up to 65,535 bytes.
    CutsLargePayloads,
    /// The version of an event is stored in two bytes.
    VersionsHaveTwoBytes,
    /// The position of a source is stored in four bytes.
    TrackingHasFourBytes,
    /// The oldest key is lost when the store is opened again.
    ReopeningForgetsTheOldestKey,
    /// The oldest source is lost when the store is opened again.
    ReopeningForgetsTheOldestSource,

    // Commits.
    /// The commit end of a batch is its `upto`.
    CommitEndIsUpto,
    /// The commit end of a batch is the head.
    CommitEndIsTheHead,
    /// A commit that is larger than a batch is read in parts.
    SplitsCommits,
    /// Neighbouring commits are read as one.
    JoinsCommits,
    /// Commits are read without their keys.
    CommitsForgetKeys,
    /// Commits above position 64 are read without their keys.
    CommitsForgetLateKeys,
    /// Commits above position 64 are read without their tracking.
    CommitsForgetLateTracking,
    /// The keys of commits are read without their digests.
    CommitsForgetDigests,
    /// Commits are read without their tracking.
    CommitsForgetTracking,
    /// The tracking of commits is read without its origin.
    CommitsForgetOrigins,
    /// Each commit is read with the time of the last one.
    CommitsHaveTheLastTime,
    /// Commits without events are not read.
    LeavesOutTrackingAlone,
    /// A read of commits may begin within one, and returns its rest.
    CommitsBeginAnywhere,
    /// The checksum of an event does not cover its time.
    ChecksumsLeaveOutTheTime,

    // Handles.
    /// A store with other writers denies them.
    SaysItWritesAlone,
    /// Each handle has another identity.
    HandlesHaveTheirOwnIdentity,
    /// The fresh head is the head of the handle.
    FreshHeadIsTheHead,
    /// The fresh head is one position too low.
    FreshHeadIsOneTooLow,
    /// The head of a handle does not move when the fresh head is known.
    FreshHeadMovesNoHead,
    /// Keys and tracking of other handles are not found.
    LookUpsMissOtherHandles,
    /// Checks consider only what the head of the handle shows.
    ChecksMissOtherHandles,
    /// A refusal does not move the head of its handle.
    RefusalsMoveNoHead,
    /// The head of a handle moves only with its own commits.
    HeadsIgnoreOtherHandles,
    /// The position of a condition is compared with the head of the handle.
    ComparesConditionsWithItsHead,

    // Look-ups.
    /// `last` is the first match.
    LastSaysTheFirst,
    /// `last` ignores `upto`.
    LastIgnoresUpto,
    /// `last` without a match is position 0.
    LastOfNothingIsStart,
    /// `last` and `count` above the head are errors.
    RefusesLookUpsAboveTheHead,
    /// `last` and `count` consider only the newest 1,000 events.
    LooksUpTheNewest1000,
    /// `count` counts commits.
    CountsCommits,
    /// `count` does not count the event at `upto`.
    CountExcludesUpto,
    /// `count` counts a repeated tag of one event twice.
    CountsATagAsOftenAsGiven,
    /// `count` of an unknown tag is an error.
    UnknownTagIsAnError,
    /// `types` lists a type once for each event.
    TypesAsOftenAsWritten,
    /// `types` lists only the type of the last event.
    TypesOfTheNewest,

    // Time.
    /// `recorded_at` follows a clock that goes back.
    ClockGoesBack,
    /// Each event of a commit has its own `recorded_at`.
    StampsEveryEvent,
    /// `recorded_at` is computed when an event is read.
    StampsOnRead,
    /// The time is that of the append if it has one, or else that of the clock.
    AcceptsAnyTime,
    /// The time of the append is ignored in favour of the clock.
    IgnoresTheCallersTime,
    /// A caller's time is recorded even if it went back.
    TakesTimeThatWentBack,
    /// An accepted commit has the `recorded_at` of the commit before it.
    AcceptedSaysTheTimeBefore,
    /// An accepted commit has the caller's time as it was given.
    AcceptedSaysTheTimeGiven,
    /// An append that records nothing returns the time of the clock.
    AcceptedSaysTheClockForNothing,

    // Limits.
    /// No limit is enforced, except those of batches.
    IgnoresLimits,
    /// The limits apply to each filter of a commit, and not to their sum.
    BoundsEachFilterAlone,
    /// A request just within a limit is refused.
    LimitsAreOneTooSmall,
    /// The reported limits are always the defaults.
    SaysOtherLimits,
    /// A batch is bounded only by its read.
    IgnoresBatchLimits,
    /// The `upto` of a full batch covers events that did not fit.
    LosesWhatDoesNotFit,
    /// An event larger than the limit of a batch is skipped.
    LetsNothingLargeThrough,

    // Names.
    /// White space around names is not stored.
    TrimsNames,
    /// Names are cut after 128 characters.
    CutsLongNames,

    // The end.
    /// Waiters are not told of the end.
    EndsInSilence,
    /// An ended store accepts commits.
    TakesCommitsAfterTheEnd,

    // Reopening.
    /// `recorded_at` of all events changes.
    ReopeningStampsAgain,
    /// The head is 0 until the next commit.
    ReopeningForgetsTheHead,
    /// Positions start at 1 again.
    ReopeningStartsAtOne,
    /// Keys are lost.
    ReopeningForgetsKeys,
    /// Tracking is lost.
    ReopeningForgetsTracking,
    /// Tracking that was committed without events is lost.
    ReopeningForgetsTrackingAlone,
    /// Events are no longer found by their tags.
    ReopeningForgetsTags,
    /// The epoch changes.
    ReopeningChangesTheIdentity,
    /// The last commit is lost.
    ReopeningLosesTheLastCommit,
    /// The last recorded time is lost.
    ReopeningForgetsTheTime,
}
