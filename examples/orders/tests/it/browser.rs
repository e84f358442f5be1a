//! The page in a real browser, over the shop as a user starts it.

use crate::look::{
    Running, assert_no_errors, assert_no_findings,
    driver::{Driver, Window},
    wait,
};

async fn look_over(window: Window) {
    let program = env!("CARGO_BIN_EXE_example-orders");
    let shop = Running::start(program, &["--port", "0", "--rate", "10", "--seed", "7"]);
    let mut driver = Driver::start();
    let page = driver.browser(window).await;
    page.goto(&shop.address).await.unwrap();
    wait(&page, "the page is live", "document.querySelector('#connection[data-is=live]') !== null")
        .await;
    wait(&page, "a flow is shown", "document.querySelectorAll('#flow li').length > 3").await;
    let letter = "document.querySelector('#work li[data-kind=letter]') !== null";
    wait(&page, "an order is parked", letter).await;
    let is_narrow = "document.documentElement.scrollWidth <= window.innerWidth";
    wait(&page, "the page is as wide as the window", is_narrow).await;
    assert_no_findings(&page).await;

    // A person leaves the event out, and the letter is gone.
    let skip = "
        const button = document.querySelectorAll('#work li[data-kind=letter] button')[1];
        button.click();";
    page.execute(skip, Vec::new()).await.unwrap();
    let said = "document.querySelector('#said').textContent.startsWith('Answered')";
    wait(&page, "the answer is taken", said).await;
    assert_no_errors(&driver);
}

#[tokio::test]
async fn an_operator_answers_a_letter_on_the_page_of_a_desktop() {
    look_over(Window::Desktop).await;
}

#[tokio::test]
async fn an_operator_answers_a_letter_on_the_page_of_a_phone() {
    look_over(Window::Phone).await;
}
