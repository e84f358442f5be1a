//! What a projection's own statements may do. SQLite asks when a statement is prepared, and again
//! before anything is committed.

use std::{collections::HashSet, sync::Arc};

use diptych::projection::caught;
use parking_lot::Mutex;
use rusqlite::{
    Connection,
    hooks::{AuthAction, AuthContext, Authorization},
};

/// Who is at work on a connection, and what they may do. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Guard(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rules: Rules,
    /// What was refused last, and why.
    refused: Option<String>,
}

/// What is allowed now.
#[derive(Clone, Default)]
pub(crate) enum Rules {
    /// This crate is at work.
    #[default]
    Everything,
    /// A projection makes its tables, and leaves alone what was there before.
    Create {
        /// What was there before.
        existing: Arc<HashSet<String>>,
    },
    /// A projection writes rows.
    Write {
        /// What it made.
        own: Arc<HashSet<String>>,
    },
}

impl Guard {
    /// Watches over this connection from now on.
    pub(crate) fn watch(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let state = Arc::clone(&self.0);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            let mut state = state.lock();
            match state.rules.refusal(&context.action) {
                Some(refused) => {
                    state.refused = Some(refused);
                    Authorization::Deny
                }
                None => Authorization::Allow,
            }
        }))?;
        // Whatever ended the transaction: what follows would be committed by itself.
        let state = Arc::clone(&self.0);
        connection.commit_hook(Some(move || {
            let is_ours = matches!(state.lock().rules, Rules::Everything);
            !is_ours
        }))
    }

    /// Runs code of a projection under these rules: what it answers or panicked with, and what it
    /// was refused.
    pub(crate) fn during<T>(
        &self,
        rules: Rules,
        run: impl FnOnce() -> T,
    ) -> (Result<T, String>, Option<String>) {
        *self.0.lock() = State { rules, refused: None };
        let outcome = caught(run);
        let State { refused, .. } = std::mem::take(&mut *self.0.lock());
        (outcome, refused)
    }
}

impl Rules {
    fn refusal(&self, action: &AuthAction<'_>) -> Option<String> {
        use AuthAction::{
            AlterTable, Attach, CreateTrigger, Delete, Detach, DropIndex, DropTable, DropTrigger,
            DropView, DropVtable, Insert, Transaction, Update,
        };
        if matches!(self, Rules::Everything) {
            return None;
        }
        match *action {
            Transaction { .. } => Some(
                "a projection must not begin, commit or roll back: rows and checkpoint are \
                 committed together, after it is done (a savepoint is fine)"
                    .to_owned(),
            ),
            Attach { .. } | Detach { .. } => Some(
                "a projection must not attach or detach databases: they are not committed \
                 together with its checkpoint"
                    .to_owned(),
            ),
            Insert { table_name }
            | Update { table_name, .. }
            | Delete { table_name }
            | AlterTable { table_name, .. }
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
            // Every statement that makes or removes something writes to the schema.
            Rules::Write { .. } if table.starts_with("sqlite_") => Some(
                "tables are made in `create`, not in `apply`: so that a reset removes them"
                    .to_owned(),
            ),
            Rules::Write { own } => (!own.contains(table)).then(|| {
                format!(
                    "{table} is not of this projection, which may write only to what it made in \
                     `create`: so that a reset makes the same rows again"
                )
            }),
        }
    }
}
