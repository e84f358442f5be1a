//! Processes on every store: a folder, memory, a server. Programs and servers are killed, disks
//! fill up, releases change, and logs have events that no program of today wrote.

mod child;
mod disk;
mod fuse;
mod hostile;
mod kills;
mod nodes;
mod outage;
mod provider;
mod releases;
mod shop;
mod starts;
