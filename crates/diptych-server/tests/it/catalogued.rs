//! A server over the catalogue of its app.

use diptych::{App, Memory, catalogue::Catalogue};
use diptych_server::{Caller, CommandRoute, Denial, QueryRoute, ServeError, Server};
use serde_json::{Value, json};

use crate::{
    client::{Events, Request},
    domain::{
        Guestbook, HowMany, LastRemarks, Leave, Plan, Remark, Remarked, Seat, Seats, Take, WhoSits,
    },
    served::{TheatreServer, with_views},
};

fn catalogue() -> Catalogue<diptych::catalogue::WithSchemas> {
    Catalogue::with_schemas()
        .command::<Take>("take-seat")
        .command::<Leave>("leave-seat")
        .infallible_command::<Remark>("remark")
        .query::<WhoSits>("who-sits")
        .query::<Seats>("seats")
        .live_query::<HowMany>("how-many")
        .live_query::<LastRemarks>("last-remarks")
        .event::<Seat>()
        .event::<Remarked>()
        .view::<Plan>()
        .view::<Guestbook>()
}

async fn catalogued() -> App {
    App::over(Memory::new()).catalogue(catalogue()).start().await.unwrap()
}

/// The same declarations, by lines of the server.
fn lines(app: App) -> Server {
    Server::new(app)
        .command::<Take>("take-seat")
        .command::<Leave>("leave-seat")
        .command(CommandRoute::<Remark>::infallible("remark"))
        .query::<WhoSits>("who-sits")
        .query::<Seats>("seats")
        .live_query::<HowMany>("how-many")
        .live_query::<LastRemarks>("last-remarks")
        .event::<Seat>()
        .event::<Remarked>()
}

fn mistake(server: Server) -> String {
    match server.host("localhost").into_router() {
        Err(ServeError::Declaration { problem }) => problem,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was accepted"),
    }
}

#[tokio::test]
async fn a_server_needs_no_line_for_an_entry_of_the_catalogue() {
    let app = catalogued().await;
    let served = TheatreServer::of(app.clone(), |_| Server::new(app)).await;
    served.take("a1", "ada").await;
    let taken = Request::send("take-seat", json!({ "seat": "a1", "by": "bob" }));
    let rejected = served.ask(&taken).await.problem(422, "rejected");
    assert_eq!(rejected["rejection"]["by"], "ada", "{rejected}");
    let who = served.get("/queries/who-sits?seat=a1&_consistency=strong").await;
    assert_eq!(who.need("diptych-position"), "1");
    assert_eq!(who.ok(), "ada");
    let wrong = served.get("/queries/who-sits?seat=a1&seat=b1").await.problem(400, "arguments");
    let detail = wrong["detail"].as_str().unwrap();
    assert_eq!(detail, r#"the argument "seat" is there 2 times: send it once"#);
    let missing = served.get("/queries/who-sits").await.problem(400, "arguments");
    assert_eq!(missing["detail"], r#"the argument "seat" is missing"#);
    let mut events = served.events("/queries/how-many/live").await;
    let first = events.next().await.unwrap();
    assert_eq!(Events::answer(&first), (1, json!(1)));

    let app = with_views(App::over(Memory::new())).start().await.unwrap();
    let by_lines = TheatreServer::of(app.clone(), |_| lines(app)).await;
    for document in ["/openapi.json", "/catalogue"] {
        let (own, other) = (served.get(document).await.ok(), by_lines.get(document).await.ok());
        assert_eq!(own, other, "{document}");
    }
}

#[tokio::test]
async fn a_route_gives_an_entry_of_the_catalogue_its_options() {
    let app = catalogued().await;
    let admit = |_: &Caller, take: &Take| match take.by.as_str() {
        "eve" => Err(Denial::forbidden("eve stands")),
        _ => Ok(()),
    };
    let server = Server::new(app.clone())
        .command(CommandRoute::<Take>::new("take-seat").admit(admit))
        .query(QueryRoute::<Seats>::new("seats").paged(1).explained())
        .command::<Take>("take-too");
    let served = TheatreServer::of(app, |_| server).await;
    let by_eve = Request::send("take-seat", json!({ "seat": "a1", "by": "eve" }));
    served.ask(&by_eve).await.problem(403, "denied");
    served.take("a1", "ada").await;
    served.done("take-too", json!({ "seat": "a2", "by": "eve" })).await;
    let page = served.get("/queries/seats?_consistency=strong").await;
    assert_eq!(page.need("diptych-total"), "2");
    assert_eq!(page.ok().as_array().unwrap().len(), 1);
    let explained = served.get("/queries/seats/explanation").await.ok();
    assert_eq!(explained["events"].as_array().unwrap().len(), 2);
    served.get("/queries/who-sits/explanation?seat=a1").await.problem(404, "unknown");
}

#[tokio::test]
async fn a_route_that_contradicts_the_catalogue_stops_the_server() {
    let app = catalogued().await;
    let problem = mistake(Server::new(app.clone()).command::<Leave>("take-seat"));
    assert!(problem.contains("Leave") && problem.contains("Take"), "{problem}");
    let problem = mistake(Server::new(app.clone()).query::<Seats>("who-sits"));
    assert!(problem.contains("WhoSits") && problem.contains("rename one"), "{problem}");
    let twice = Server::new(app.clone()).command::<Take>("take-seat").command::<Take>("take-seat");
    assert_eq!(mistake(twice), r#"there are two commands "take-seat": rename one"#);
    let twice = Server::new(app.clone()).query::<Seats>("more").query::<Seats>("more");
    assert_eq!(mistake(twice), r#"there are two queries "more": rename one"#);
    let problem = mistake(Server::new(app).command::<Take>("Take"));
    assert!(problem.starts_with(r#""Take" is no name for a command"#), "{problem}");

    let dull = Catalogue::with_schemas().query::<HowMany>("how-many").view::<Plan>();
    let app = App::over(Memory::new()).catalogue(dull).start().await.unwrap();
    let problem = mistake(Server::new(app).live_query::<HowMany>("how-many"));
    assert!(problem.contains("without live answers"), "{problem}");
}

#[tokio::test]
async fn a_catalogue_without_schemas_is_served_too() {
    let names = Catalogue::new()
        .command::<Take>("take-seat")
        .live_query::<WhoSits>("who-sits")
        .view::<Plan>();
    let app = App::over(Memory::new()).catalogue(names).start().await.unwrap();
    let served = TheatreServer::of(app.clone(), |_| Server::new(app)).await;
    served.take("a1", "ada").await;
    let wrong = Request::send("take-seat", json!({ "seat": 1, "by": "ada" }));
    assert_eq!(served.ask(&wrong).await.problem(400, "malformed")["field"], "seat");
    assert_eq!(served.get("/queries/who-sits?seat=a1&_consistency=strong").await.ok(), "ada");
    let openapi = served.get("/openapi.json").await.ok();
    let post = &openapi["paths"]["/commands/take-seat"]["post"];
    assert_eq!(post["requestBody"]["content"]["application/json"]["schema"], Value::Bool(true));
    assert_eq!(post["summary"], "take-seat");
}
