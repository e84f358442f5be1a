//! Rules for the statements of a projection. SQLite asks the guard when a statement is prepared,
//! and again before each commit.

use std::{collections::HashSet, sync::Arc};

use diptych::projection::caught;
use parking_lot::Mutex;
use rusqlite::{
    Connection,
    hooks::{AuthAction, AuthContext, Authorization},
};

/// The rules that now apply to a connection. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Guard(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rules: Rules,
    /// Reason of the last refusal.
    refused: Option<String>,
    /// SQLite rolled the transaction back while a projection was at work.
    rolled_back: bool,
    /// A statement asked for a savepoint while none is allowed yet.
    wants_savepoints: bool,
}

/// The outcome of running code of a projection.
pub(crate) struct Ran<T> {
    /// Its result, or the text of its panic.
    pub(crate) outcome: Result<T, String>,
    /// The reason of the last refusal.
    pub(crate) refused: Option<String>,
    /// The transaction that the code got has ended, even if another one is open now.
    pub(crate) rolled_back: bool,
    /// A savepoint was refused that [`Savepoints::Allowed`] would permit.
    pub(crate) wants_savepoints: bool,
}

/// Whether a projection may use savepoints.
///
/// A savepoint that one event leaves open would let a later event of the same batch undo it. So
/// they are allowed only if this crate wraps each event in a savepoint, at a cost that most
/// projections need not pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Savepoints {
    Refused,
    Allowed,
}

/// The operations that are allowed now.
#[derive(Clone, Default)]
pub(crate) enum Rules {
    /// This crate is at work.
    #[default]
    Everything,
    /// A projection makes its tables, and must not change existing objects.
    Create {
        /// Names of the existing objects.
        existing: Arc<HashSet<String>>,
    },
    /// A projection writes rows.
    Write {
        /// Names of the objects that it made.
        own: Arc<HashSet<String>>,
        savepoints: Savepoints,
    },
}

/// Prefix of the names of this crate's savepoints.
const OWN_SAVEPOINTS: &str = "diptych";

/// Pragmas that virtual tables read internally while rows are written to them.
const PRAGMAS_OF_VIRTUAL_TABLES: [&str; 2] = ["data_version", "page_size"];
/// Pragmas that change nothing, with or without a value.
const READING_PRAGMAS: [&str; 7] = [
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "index_xinfo",
    "foreign_key_list",
];

impl Guard {
    /// Guards this connection from now on.
    pub(crate) fn watch(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let state = Arc::clone(&self.0);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            let mut state = state.lock();
            if state.rules.wants_savepoints(&context.action) {
                state.wants_savepoints = true;
                return Authorization::Deny;
            }
            match state.rules.refusal(&context.action) {
                Some(refused) => {
                    state.refused = Some(refused);
                    Authorization::Deny
                }
                None => Authorization::Allow,
            }
        }))?;
        // If code sets a savepoint after a rollback, SQLite begins another transaction, without the
        // earlier writes. From outside it looks like the first transaction, so note the rollback.
        let state = Arc::clone(&self.0);
        connection.rollback_hook(Some(move || {
            let mut state = state.lock();
            state.rolled_back |= !matches!(state.rules, Rules::Everything);
        }))?;
        // If a projection ends the transaction, each further statement would commit by itself. So
        // only this crate may commit.
        let state = Arc::clone(&self.0);
        connection.commit_hook(Some(move || {
            let is_ours = matches!(state.lock().rules, Rules::Everything);
            !is_ours
        }))
    }

    /// Runs code of a projection under these rules.
    pub(crate) fn during<T>(&self, rules: Rules, run: impl FnOnce() -> T) -> Ran<T> {
        *self.0.lock() = State { rules, ..State::default() };
        let outcome = caught(run);
        let state = std::mem::take(&mut *self.0.lock());
        Ran {
            outcome,
            refused: state.refused,
            rolled_back: state.rolled_back,
            wants_savepoints: state.wants_savepoints,
        }
    }
}

impl Rules {
    pub(crate) fn allow_savepoints(&self) -> bool {
        matches!(self, Rules::Write { savepoints: Savepoints::Allowed, .. })
    }

    /// Whether this action is a savepoint that is refused only because savepoints are not allowed
    /// yet.
    fn wants_savepoints(&self, action: &AuthAction<'_>) -> bool {
        let refused = matches!(self, Rules::Write { savepoints: Savepoints::Refused, .. });
        refused && matches!(action, AuthAction::Savepoint { .. }) && self.refusal(action).is_none()
    }

    fn refusal(&self, action: &AuthAction<'_>) -> Option<String> {
        use AuthAction::{
            AlterTable, Attach, CreateIndex, CreateTempIndex, CreateTempTable, CreateTempTrigger,
            CreateTempView, CreateTrigger, Delete, Detach, DropIndex, DropTable, DropTempIndex,
            DropTempTable, DropTempTrigger, DropTempView, DropTrigger, DropView, DropVtable,
            Function, Insert, Pragma, Savepoint, Transaction, Update,
        };
        if matches!(self, Rules::Everything) {
            return None;
        }
        match *action {
            Transaction { .. } => Some(TRANSACTION.to_owned()),
            Attach { .. } | Detach { .. } => Some(ATTACH.to_owned()),
            CreateTempIndex { .. }
            | CreateTempTable { .. }
            | CreateTempTrigger { .. }
            | CreateTempView { .. }
            | DropTempIndex { .. }
            | DropTempTable { .. }
            | DropTempTrigger { .. }
            | DropTempView { .. } => Some(TEMPORARY.to_owned()),
            Pragma { pragma_name, pragma_value } => refusal_of_pragma(pragma_name, pragma_value),
            Function { function_name } => (function_name.eq_ignore_ascii_case("total_changes"))
                .then(|| "total_changes() depends on how long the database has been open".into()),
            Savepoint { savepoint_name, .. } => is_own_savepoint(savepoint_name).then(|| {
                format!("the savepoint name {savepoint_name} is reserved: take another name")
            }),
            Insert { table_name }
            | Update { table_name, .. }
            | Delete { table_name }
            | AlterTable { table_name, .. }
            | CreateIndex { table_name, .. }
            | CreateTrigger { table_name, .. }
            | DropTable { table_name }
            | DropVtable { table_name, .. }
            | DropIndex { table_name, .. }
            | DropTrigger { table_name, .. }
            | DropView { view_name: table_name } => self.refusal_to_write(table_name),
            _ => None,
        }
    }

    fn refusal_to_write(&self, table: &str) -> Option<String> {
        match self {
            Rules::Everything => None,
            Rules::Create { existing } => existing.contains(table).then(|| {
                format!("{table} was there before: `create` may not change it; take another name")
            }),
            // Every statement that makes or removes an object writes to the schema.
            Rules::Write { .. } if table.starts_with("sqlite_") => Some(
                "tables and indexes are made in `create`, not in `apply`: a rebuild removes only \
                 what `create` made"
                    .to_owned(),
            ),
            Rules::Write { own, .. } => (!own.contains(table)).then(|| {
                format!(
                    "{table} does not belong to this projection, which may write only to what it \
                     made in `create`: otherwise a rebuild could make other rows"
                )
            }),
        }
    }
}

const TRANSACTION: &str = "a projection must not begin, commit or roll back: rows and checkpoint \
    are committed together, after it is done (a savepoint is fine)";
const ATTACH: &str = "a projection must not attach or detach databases: they are not committed \
    together with its checkpoint";
const TEMPORARY: &str = "a projection must not make or remove temporary tables, views, indexes or \
    triggers: they are gone when the database is opened again";

fn refusal_of_pragma(name: &str, value: Option<&str>) -> Option<String> {
    let is_in = |known: &[&str]| known.iter().any(|known| name.eq_ignore_ascii_case(known));
    let reads = is_in(&READING_PRAGMAS) || value.is_none() && is_in(&PRAGMAS_OF_VIRTUAL_TABLES);
    (!reads).then(|| {
        format!(
            "a projection must not use PRAGMA {name}: it outlasts the event, and is gone when the \
             database is opened again"
        )
    })
}

fn is_own_savepoint(name: &str) -> bool {
    let start = name.get(..OWN_SAVEPOINTS.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(OWN_SAVEPOINTS))
}
