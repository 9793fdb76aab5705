//! The calls of sqlx that this module needs, for either engine: a statement is written
//! once, in the dialect both speak, and meets its engine where it is run. Names and shapes
//! are those of sqlx.
//!
//! sqlx's own `Any` driver would copy every row into a form of its own and writes
//! placeholders that PostgreSQL does not read.

mod bind;

use std::fmt::Display;
use std::ops::{Deref, DerefMut};

use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{
    Arguments, AssertSqlSafe, ColumnIndex, Decode, Error, Postgres, SqlSafeStr, SqlStr, Sqlite,
    Type,
};

pub use bind::Json;
pub(crate) use bind::{Bind, Value};

/// Makes transactions that write follow one another, as SQLite does by itself: what is read
/// in one still holds when it writes, and ids ascend in the order of commits. The schema's
/// name keeps two installations in one database apart; the number is ours by chance.
const BEGIN_POSTGRES: &str =
    "begin; select pg_advisory_xact_lock(1683907189, hashtext(current_schema()))";

/// A query's result, or what sqlx says.
type Result<T> = std::result::Result<T, Error>;

/// What keeps the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// Connections of one engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Pool {
    /// A file.
    Sqlite(SqlitePool),
    /// A server.
    Postgres(PgPool),
}

impl Pool {
    /// Begins a transaction that writes; others that do so wait until it ends.
    pub(crate) async fn begin(&self) -> Result<Transaction> {
        Ok(Transaction(match self {
            Self::Sqlite(pool) => Connection::Sqlite(pool.begin_with("begin immediate").await?),
            Self::Postgres(pool) => {
                Connection::Postgres(pool.begin_with(BEGIN_POSTGRES).await.map_err(unanswered)?)
            }
        }))
    }

    /// For the few statements that cannot be the same.
    pub(crate) fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// The connection of a transaction.
#[derive(Debug)]
pub(crate) enum Connection {
    /// To a file.
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    /// To a server.
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Connection {
    /// See [`Pool::engine`].
    pub(crate) fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }
}

/// A transaction; dropped without a commit, it changed nothing.
#[derive(Debug)]
pub(crate) struct Transaction(Connection);

impl Transaction {
    pub(crate) async fn commit(self) -> Result<()> {
        match self.0 {
            Connection::Sqlite(tx) => tx.commit().await,
            Connection::Postgres(tx) => tx.commit().await,
        }
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

/// Where a statement is run.
pub(crate) enum On<'c> {
    SqlitePool(&'c SqlitePool),
    Sqlite(&'c mut SqliteConnection),
    PgPool(&'c PgPool),
    Pg(&'c mut PgConnection),
}

impl<'c> From<&'c Pool> for On<'c> {
    fn from(pool: &'c Pool) -> Self {
        match pool {
            Pool::Sqlite(pool) => Self::SqlitePool(pool),
            Pool::Postgres(pool) => Self::PgPool(pool),
        }
    }
}

impl<'c> From<&'c mut Connection> for On<'c> {
    fn from(connection: &'c mut Connection) -> Self {
        match connection {
            Connection::Sqlite(tx) => Self::Sqlite(tx),
            Connection::Postgres(tx) => Self::Pg(tx),
        }
    }
}

/// What a statement that returns no rows did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done(u64);

impl Done {
    pub(crate) fn rows_affected(self) -> u64 {
        self.0
    }
}

/// One row of an answer.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The value in a column.
    pub(crate) fn try_get<'r, T, I>(&'r self, column: I) -> Result<T>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
        I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        match self {
            Self::Sqlite(row) => sqlx::Row::try_get(row, column),
            Self::Postgres(row) => sqlx::Row::try_get(row, column),
        }
    }
}

/// A type that rows of both engines are read into: `#[derive(sqlx::FromRow)]`, or a tuple.
pub(crate) trait FromRow:
    for<'r> sqlx::FromRow<'r, SqliteRow> + for<'r> sqlx::FromRow<'r, PgRow>
{
}

impl<T> FromRow for T where
    T: for<'r> sqlx::FromRow<'r, SqliteRow> + for<'r> sqlx::FromRow<'r, PgRow>
{
}

fn record<T: FromRow>(row: &Row) -> Result<T> {
    match row {
        Row::Sqlite(row) => T::from_row(row),
        Row::Postgres(row) => T::from_row(row),
    }
}

/// A type that a column of both engines is read into.
pub(crate) trait Scalar:
    for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

impl<T> Scalar for T where
    T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

fn scalar<T: Scalar>(row: &Row) -> Result<T> {
    row.try_get(0)
}

/// A statement with its values. Placeholders are `$1`, `$2`, …, or `?` throughout.
pub(crate) struct Query<'q> {
    text: SqlStr,
    values: Vec<Value<'q>>,
}

/// A statement whose rows are read by `read`.
pub(crate) struct QueryAs<'q, T> {
    query: Query<'q>,
    read: fn(&Row) -> Result<T>,
}

/// A statement.
pub(crate) fn query<'q>(text: impl SqlSafeStr) -> Query<'q> {
    Query {
        text: text.into_sql_str(),
        values: Vec::new(),
    }
}

/// A statement whose rows are `T`s.
pub(crate) fn query_as<'q, T: FromRow>(text: impl SqlSafeStr) -> QueryAs<'q, T> {
    QueryAs {
        query: query(text),
        read: record,
    }
}

/// A statement whose rows have one column.
pub(crate) fn query_scalar<'q, T: Scalar>(text: impl SqlSafeStr) -> QueryAs<'q, T> {
    QueryAs {
        query: query(text),
        read: scalar,
    }
}

impl<'q> Query<'q> {
    pub(crate) fn bind(mut self, value: impl Bind<'q>) -> Self {
        self.values.push(value.value());
        self
    }

    pub(crate) async fn execute<'c>(self, on: impl Into<On<'c>>) -> Result<Done> {
        let on = on.into();
        Ok(Done(match on {
            On::SqlitePool(pool) => self.sqlite()?.execute(pool).await?.rows_affected(),
            On::Sqlite(tx) => self.sqlite()?.execute(tx).await?.rows_affected(),
            On::PgPool(pool) => {
                let done = self.postgres()?.execute(pool).await;
                done.map_err(unanswered)?.rows_affected()
            }
            On::Pg(tx) => self.postgres()?.execute(tx).await?.rows_affected(),
        }))
    }

    pub(crate) async fn fetch_all<'c>(self, on: impl Into<On<'c>>) -> Result<Vec<Row>> {
        let on = on.into();
        let sqlite = |rows: Vec<SqliteRow>| rows.into_iter().map(Row::Sqlite).collect();
        let postgres = |rows: Vec<PgRow>| rows.into_iter().map(Row::Postgres).collect();
        match on {
            On::SqlitePool(pool) => self.sqlite()?.fetch_all(pool).await.map(sqlite),
            On::Sqlite(tx) => self.sqlite()?.fetch_all(tx).await.map(sqlite),
            On::PgPool(pool) => {
                let rows = self.postgres()?.fetch_all(pool).await;
                rows.map_err(unanswered).map(postgres)
            }
            On::Pg(tx) => self.postgres()?.fetch_all(tx).await.map(postgres),
        }
    }

    pub(crate) async fn fetch_optional<'c>(self, on: impl Into<On<'c>>) -> Result<Option<Row>> {
        let on = on.into();
        let sqlite = |row: Option<SqliteRow>| row.map(Row::Sqlite);
        let postgres = |row: Option<PgRow>| row.map(Row::Postgres);
        match on {
            On::SqlitePool(pool) => self.sqlite()?.fetch_optional(pool).await.map(sqlite),
            On::Sqlite(tx) => self.sqlite()?.fetch_optional(tx).await.map(sqlite),
            On::PgPool(pool) => {
                let row = self.postgres()?.fetch_optional(pool).await;
                row.map_err(unanswered).map(postgres)
            }
            On::Pg(tx) => self.postgres()?.fetch_optional(tx).await.map(postgres),
        }
    }

    pub(crate) async fn fetch_one<'c>(self, on: impl Into<On<'c>>) -> Result<Row> {
        self.fetch_optional(on).await?.ok_or(Error::RowNotFound)
    }

    fn sqlite(self) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(self.values.len(), 0);
        for value in self.values {
            value.add_to(&mut arguments)?;
        }
        Ok(sqlx::query_with(self.text, arguments))
    }

    fn postgres(self) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>> {
        let mut arguments = PgArguments::default();
        arguments.reserve(self.values.len(), 0);
        for value in self.values {
            value.without_nul().add_to(&mut arguments)?;
        }
        Ok(sqlx::query_with(numbered(self.text), arguments))
    }
}

impl<'q, T> QueryAs<'q, T> {
    pub(crate) fn bind(mut self, value: impl Bind<'q>) -> Self {
        self.query = self.query.bind(value);
        self
    }

    pub(crate) async fn fetch_all<'c>(self, on: impl Into<On<'c>>) -> Result<Vec<T>> {
        let rows = self.query.fetch_all(on).await?;
        rows.iter().map(self.read).collect()
    }

    pub(crate) async fn fetch_optional<'c>(self, on: impl Into<On<'c>>) -> Result<Option<T>> {
        let row = self.query.fetch_optional(on).await?;
        row.as_ref().map(self.read).transpose()
    }

    pub(crate) async fn fetch_one<'c>(self, on: impl Into<On<'c>>) -> Result<T> {
        (self.read)(&self.query.fetch_one(on).await?)
    }
}

/// Says in other words than sqlx that no connection could be had.
fn unanswered(error: Error) -> Error {
    match error {
        Error::PoolTimedOut => Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "the database server does not answer; check that it runs",
        )),
        other => other,
    }
}

/// The text with numbers for nameless placeholders, which PostgreSQL does not know.
fn numbered(text: SqlStr) -> SqlStr {
    let sql = text.as_str();
    if !sql.contains('?') {
        return text;
    }
    let mut out = String::with_capacity(sql.len() + 64);
    let mut quoted = false;
    let mut number = 0;
    for c in sql.chars() {
        quoted ^= c == '\'';
        out.push(if c == '?' && !quoted { '$' } else { c });
        if c == '?' && !quoted {
            number += 1;
            out.push_str(&i32::to_string(&number));
        }
    }
    AssertSqlSafe(out).into_sql_str()
}

/// A statement put together from parts.
#[derive(Debug, Default)]
pub(crate) struct QueryBuilder {
    text: String,
    values: Vec<Value<'static>>,
}

impl QueryBuilder {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            values: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, text: impl Display) -> &mut Self {
        self.text.push_str(&text.to_string());
        self
    }

    pub(crate) fn push_bind<'q>(&mut self, value: impl Bind<'q>) -> &mut Self {
        self.text.push('?');
        self.values.push(value.value().into_owned());
        self
    }

    /// A list whose members have `between` between them.
    pub(crate) fn separated(&mut self, between: &'static str) -> Separated<'_> {
        Separated {
            sql: self,
            between,
            begun: false,
        }
    }

    /// The statement; empties this.
    pub(crate) fn build(&mut self) -> Query<'static> {
        // Parts of a statement are literals or built from such; see the callers.
        Query {
            text: AssertSqlSafe(std::mem::take(&mut self.text)).into_sql_str(),
            values: std::mem::take(&mut self.values),
        }
    }

    /// The statement, its rows being `T`s; empties this.
    pub(crate) fn build_query_as<T: FromRow>(&mut self) -> QueryAs<'static, T> {
        QueryAs {
            query: self.build(),
            read: record,
        }
    }
}

/// A list in a [`QueryBuilder`].
pub(crate) struct Separated<'b> {
    sql: &'b mut QueryBuilder,
    between: &'static str,
    begun: bool,
}

impl Separated<'_> {
    pub(crate) fn push_bind<'q>(&mut self, value: impl Bind<'q>) -> &mut Self {
        if self.begun {
            self.sql.push(self.between);
        }
        self.begun = true;
        self.sql.push_bind(value);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_and_texts_left_alone() {
        let sql = numbered("select '??', ?, 'it''s?' where x = ?".into_sql_str());
        assert_eq!(sql.as_str(), "select '??', $1, 'it''s?' where x = $2");
        let sql = numbered("select $1".into_sql_str());
        assert_eq!(sql.as_str(), "select $1");
    }
}
