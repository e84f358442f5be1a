//! Lists in parts: pages of an answer, and sections of an explanation.

use diptych::{App, Memory};
use diptych_server::{QueryRoute, ServeError, Server};
use serde_json::{Value, json};

use crate::{
    client::{Request, Response},
    domain::{HowMany, Seats, WhoSits},
    served::{TheatreServer, with_views},
};

async fn with_five_seats() -> TheatreServer {
    let served = TheatreServer::new().await;
    for seat in ["a1", "a2", "b1", "b2", "b3"] {
        served.take(seat, "ada").await;
    }
    served
}

/// The query string of the link to the next part.
fn next(response: &Response) -> Option<String> {
    let link = response.header("link")?;
    let next = link.strip_prefix("<?").and_then(|link| link.strip_suffix(">; rel=\"next\""));
    Some(next.unwrap_or_else(|| panic!("{link}")).to_owned())
}

/// The parts of a list, and the number of requests.
async fn follow(served: &TheatreServer, path: &str, query: &str) -> Vec<Response> {
    let (mut query, mut parts) = (Some(query.to_owned()), Vec::new());
    while let Some(part) = query {
        let response = served.get(&format!("{path}?{part}")).await;
        assert_eq!(response.status, 200, "{}", response.text());
        query = next(&response);
        parts.push(response);
        assert!(parts.len() < 100, "the links do not end");
    }
    parts
}

fn seats(parts: &[Response]) -> Vec<String> {
    let items = parts.iter().flat_map(|part| part.json().as_array().unwrap().clone());
    items.map(|item| item["seat"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn links_lead_through_all_items_with_the_same_arguments() {
    let served = with_five_seats().await;
    for (limit, lengths) in [(1, vec![1, 1, 1]), (2, vec![2, 1]), (3, vec![3]), (9, vec![3])] {
        let query = format!("row=b&names=true&_limit={limit}&_consistency=strong");
        let parts = follow(&served, "/queries/seats", &query).await;
        assert_eq!(seats(&parts), ["b1", "b2", "b3"]);
        let sizes = parts.iter().map(|part| part.json().as_array().unwrap().len());
        assert_eq!(sizes.collect::<Vec<_>>(), lengths);
        for part in &parts {
            assert_eq!(part.need("diptych-total"), "3");
            assert_eq!(part.json()[0]["by"], "ada");
        }
    }
    let strange = follow(&served, "/queries/seats", "row=%3C%26%C3%A4&_limit=1").await;
    assert_eq!((seats(&strange).len(), strange[0].need("diptych-total")), (0, "0".to_owned()));
    let beyond = served.get("/queries/seats?_offset=18446744073709551615").await;
    assert_eq!((next(&beyond), beyond.need("diptych-total")), (None, "5".to_owned()));
    assert_eq!(beyond.ok(), json!([]));
    let counted = served.get("/queries/seats?_limit=0").await;
    assert_eq!((next(&counted), counted.need("diptych-total")), (None, "5".to_owned()));
    assert_eq!(counted.ok(), json!([]));
}

#[tokio::test]
async fn a_page_is_no_longer_than_its_route_allows() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let route = || QueryRoute::<Seats>::new("some-seats").paged(2);
    let served = TheatreServer::of(app, |server| server.query(route())).await;
    for seat in ["a1", "a2", "a3"] {
        served.take(seat, "ada").await;
    }
    for query in ["_consistency=strong", "_limit=100"] {
        let parts = follow(&served, "/queries/some-seats", query).await;
        assert_eq!((parts.len(), seats(&parts).len()), (2, 3));
    }
    let catalogue = served.get("/catalogue").await.ok();
    let queries = catalogue["queries"].as_array().unwrap();
    let items = |name: &str| {
        queries.iter().find(|query| query["name"] == name).unwrap()["page_items"].clone()
    };
    assert_eq!((items("some-seats"), items("how-many")), (2.into(), Value::Null));
}

/// The first page is of five seats, and a sixth one is taken before the second page.
#[tokio::test]
async fn the_next_page_is_as_new_as_its_page_and_its_position_shows_a_change() {
    let served = with_five_seats().await;
    let first = served.get("/queries/seats?_limit=2&_consistency=strong").await;
    let query = next(&first).unwrap();
    let token = first.need("diptych-token");
    assert!(query.contains(&format!("_after={token}")), "{query}");
    let other = TheatreServer::new().await;
    other.remark("another log").await;
    other.get(&format!("/queries/seats?{query}")).await.problem(409, "token");
    served.take("a0", "eve").await;
    let second = served.get(&format!("/queries/seats?{query}&_at_most=0")).await;
    assert_eq!(second.need("diptych-total"), "6");
    assert_ne!(second.need("diptych-position"), first.need("diptych-position"));
    // With the position of the first page, all pages are of the list as it was then.
    let position = first.need("diptych-position");
    let parts = follow(&served, "/queries/seats", &format!("_limit=2&_as_of={position}")).await;
    assert_eq!(seats(&parts), ["a1", "a2", "b1", "b2", "b3"]);
    for part in &parts {
        assert_eq!(part.need("diptych-position"), position);
        assert!(!next(part).unwrap_or_default().contains("_after"));
    }
}

#[tokio::test]
async fn a_link_has_the_options_of_headers_and_the_newest_session_of_the_address() {
    let served = with_five_seats().await;
    let request = Request::get("/queries/seats")
        .header("diptych-limit", 2)
        .header("diptych-as-of", 3)
        .header("diptych-or-stale", "true");
    let query = next(&served.ask(&request).await).unwrap();
    assert_eq!(query, "_or_stale=true&_as_of=3&_limit=2&_offset=2");
    let last = served.get(&format!("/queries/seats?{query}")).await;
    assert_eq!((next(&last), last.need("diptych-total")), (None, "3".to_owned()));
    let token = served.get("/queries/how-many?_as_of=1").await.need("diptych-token");
    let page = served.get(&format!("/queries/seats?_limit=2&_session={token}")).await;
    let newest = page.need("diptych-session");
    assert_ne!(newest, token);
    assert!(next(&page).unwrap().contains(&format!("_session={newest}")));
    let header = Request::get("/queries/seats?_limit=2").header("diptych-session", token);
    assert!(!next(&served.ask(&header).await).unwrap().contains("_session"));
}

#[tokio::test]
async fn pages_of_a_query_by_post_have_the_same_body() {
    let served = with_five_seats().await;
    let ask = |query: &str| Request::post(&format!("/queries/seats?{query}"), r#"{"row":"b"}"#);
    let first = served.ask(&ask("_limit=2&_consistency=strong")).await;
    let second = served.ask(&ask(&next(&first).unwrap())).await;
    assert_eq!(next(&second), None);
    assert_eq!(seats(&[first, second]), ["b1", "b2", "b3"]);
}

#[tokio::test]
async fn options_of_lists_are_refused_where_no_part_can_be_asked_for() {
    let served = with_five_seats().await;
    for (target, name) in [
        ("/queries/how-many", "_limit"),
        ("/queries/how-many", "_offset"),
        ("/queries/how-many", "_start_after"),
        ("/queries/seats", "_start_after"),
        ("/queries/seats/explanation", "_offset"),
    ] {
        let problem = served.get(&format!("{target}?{name}=1")).await.problem(400, "parameter");
        assert_eq!(problem["parameter"], name, "{target}");
        assert!(problem["detail"].as_str().unwrap().contains(name), "{problem}");
    }
    let detail = served.get("/queries/how-many?_offset=1").await.json()["detail"].to_string();
    assert!(detail.contains("how-many") && detail.contains("QueryRoute::paged"), "{detail}");
    for name in ["_limit", "_offset", "_start_after"] {
        let live = format!("/queries/last-remarks/live?{name}=1");
        served.get(&live).await.problem(400, "parameter");
    }
}

#[tokio::test]
async fn sections_of_an_explanation_hold_each_event_once() {
    let served = with_five_seats().await;
    let whole = served.get("/queries/seats/explanation").await.ok();
    assert_eq!((&whole["is_whole"], &whole["next"]), (&true.into(), &Value::Null));
    for query in ["_limit=2&row=b", "_limit=2&_occurred_before=9999-01-01T00:00:00Z&_as_of=5"] {
        let parts = follow(&served, "/queries/seats/explanation", query).await;
        let lists: Vec<Value> = parts.iter().map(Response::json).collect();
        let nexts: Vec<&Value> = lists.iter().map(|list| &list["next"]).collect();
        assert_eq!(nexts, [&json!(2), &json!(4), &Value::Null]);
        let events = lists.iter().flat_map(|list| list["events"].as_array().unwrap().clone());
        assert_eq!(json!(events.collect::<Vec<_>>()), whole["events"]);
    }
    let wrong = "/queries/seats/explanation?_occurred_before=9999-01-01T00:00:00Z&_start_after=7";
    let problem = served.get(wrong).await.problem(400, "parameter");
    assert_eq!(problem["parameter"], "_start_after", "{problem}");
}

#[tokio::test]
async fn an_answer_that_is_no_array_has_no_pages() {
    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    // The answer is an optional name, which is an iterator too.
    let server = Server::new(app)
        .host("localhost")
        .query(QueryRoute::<WhoSits>::new("who-sits").paged(10))
        .query::<HowMany>("how-many");
    let Err(ServeError::Declaration { problem }) = server.into_router() else {
        panic!("it was accepted")
    };
    assert!(problem.contains("who-sits") && problem.contains("paged"), "{problem}");
}
