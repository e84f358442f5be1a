//! Tests of the whole workspace. The examples in pages are compiled and run here as documentation
//! tests. The tidy test (in `tests/it/`) checks that every page with examples is listed here. The
//! pages in `docs/start` show the files of `examples/tutorial`, which are compiled and run there.
//! Programs that serve, or need a server, are compiled here, and run in `examples/pages`.

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../CONTRIBUTING.md")]
pub struct Contributing;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/streams.md")]
pub struct Streams;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/evolution.md")]
pub struct Evolution;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/commands.md")]
pub struct Commands;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/projections.md")]
pub struct Projections;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/time.md")]
pub struct Time;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/views.md")]
pub struct Views;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/reference/http.md")]
pub struct Http;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/test-a-rule.md")]
pub struct TestARuleGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/read-your-writes.md")]
pub struct ReadYourWritesGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/production.md")]
pub struct ProductionGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/reference/sqlite.md")]
pub struct Sqlite;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/records.md")]
pub struct RecordsGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/import.md")]
pub struct ImportGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/crud.md")]
pub struct CrudGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/dcb-examples.md")]
pub struct DcbExamplesGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/derived-values.md")]
pub struct DerivedValuesGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/late-facts.md")]
pub struct LateFactsGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/order-flow.md")]
pub struct OrderFlowGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/processes.md")]
pub struct ProcessesGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/outside-calls.md")]
pub struct OutsideCallsGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/nats.md")]
pub struct NatsGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/postgres.md")]
pub struct PostgresGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/webhooks.md")]
pub struct WebhooksGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/outside-system.md")]
pub struct OutsideSystemGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/second-process.md")]
pub struct SecondProcessGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/posters.md")]
pub struct PostersGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/share-a-log.md")]
pub struct ShareALogGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/time-in-rules.md")]
pub struct TimeInRulesGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/axum.md")]
pub struct AxumGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/evolving-events.md")]
pub struct EvolvingEventsGuide;

#[cfg(doctest)]
#[doc = include_str!("../../../crates/diptych-records/src/derive.md")]
pub struct DeriveRecord;

#[cfg(doctest)]
#[doc = include_str!("../../../crates/diptych/src/event/derive.md")]
pub struct Derive;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/cqrs.md")]
pub struct Cqrs;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/event-sourcing.md")]
pub struct EventSourcing;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/eventual-consistency.md")]
pub struct EventualConsistency;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/eager-derivation.md")]
pub struct EagerDerivation;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/memory-image.md")]
pub struct MemoryImage;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/event-poster.md")]
pub struct EventPoster;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/event-collaboration.md")]
pub struct EventCollaboration;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/reporting-database.md")]
pub struct ReportingDatabase;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/explain/domain-driven-design.md")]
pub struct DomainDrivenDesign;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/coming-from/cqrs-es.md")]
pub struct ComingFromCqrsEs;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/coming-from/axon.md")]
pub struct ComingFromAxon;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/coming-from/marten.md")]
pub struct ComingFromMarten;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/secure-a-log.md")]
pub struct SecureALogGuide;
