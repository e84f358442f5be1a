//! A table with a row for each event, as a program without a library writes it: no order that a
//! reader can rely on, no tags, no conditions.

use sqlx::{Pool, Postgres, postgres::PgPoolOptions};

use crate::{ours, place::Place};

const TABLE: &str = "create table if not exists event (
    pos bigint generated always as identity primary key, type text not null, data bytea not null)";

#[derive(Clone)]
pub(crate) struct Plain {
    pool: Pool<Postgres>,
}

impl Plain {
    pub(crate) fn open(place: &Place, callers: usize) -> Plain {
        place.runtime.block_on(async {
            let options = PgPoolOptions::new().max_connections(callers as u32);
            let pool = options.connect(&place.address("plain")).await.unwrap();
            sqlx::query(TABLE).execute(&pool).await.unwrap();
            Plain { pool }
        })
    }

    /// Inserts events of 256 bytes by one statement.
    pub(crate) async fn append(&self, events: u64) {
        let payloads: Vec<_> = (0..events).map(|_| ours::payload()).collect();
        let insert = "insert into event (type, data) select 'measured', unnest($1::bytea[])";
        sqlx::query(insert).bind(payloads).execute(&self.pool).await.unwrap();
    }
}
