//! The questions by which two versions of a projection are compared, and their answers.

use diptych::projection::SampleAnswer;

use crate::{link::Link, trouble::StatementError};

/// The answers to these questions, from the tables that readers see now.
pub(crate) fn answers(
    link: &mut Link,
    questions: Vec<String>,
) -> Result<Vec<SampleAnswer>, StatementError> {
    let mut answers = Vec::new();
    for question in questions {
        let sql = format!(
            "select encode(substring(sha256(convert_to(answer::text, 'UTF8')) for 16), 'hex')
            from ({}) answer",
            plain(&question)
        );
        let rows = asked(link, &sql)?.map(|rows| {
            let digests = rows.iter().map(|text| u128::from_str_radix(text, 16).unwrap_or(0));
            digests.collect()
        });
        answers.push(SampleAnswer { question, rows });
    }
    Ok(answers)
}

/// A row of the answer to a question, as text.
pub(crate) fn row(
    link: &mut Link,
    question: &str,
    row: usize,
) -> Result<Option<String>, StatementError> {
    let question = plain(question);
    let sql = format!("select answer::text from ({question}) answer offset {row} limit 1");
    Ok(asked(link, &sql)?.ok().and_then(|rows| rows.into_iter().next()))
}

/// The question without the end that only a statement of its own may have.
fn plain(question: &str) -> &str {
    question.trim_end().trim_end_matches(';')
}

/// Asks in a part of the transaction that writes nothing. An error of the question is an answer.
fn asked(link: &mut Link, sql: &str) -> Result<Result<Vec<String>, String>, StatementError> {
    link.batch("savepoint diptych_question; set local transaction_read_only = on")?;
    let answer = match link.query(sql, &[]) {
        Ok(rows) => Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?),
        Err(StatementError::Server(error)) => match error.as_db_error() {
            Some(told) => Err(told.to_string()),
            None => return Err(error.into()),
        },
        Err(error) => return Err(error),
    };
    link.forget_plans();
    link.batch("rollback to diptych_question; release diptych_question")?;
    link.has_failed = false;
    Ok(answer)
}
