//! Parents before children.

use std::collections::BTreeMap;

use super::Table;

/// Tables in the order in which rows can be written: each after those that it refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The names, parents first. Rows are deleted in the opposite order.
    pub tables: Vec<String>,
    /// Tables that refer to each other in a circle: among these no order is right. A table that refers to
    /// itself is no circle, but its rows have no order either.
    pub cycles: Vec<Vec<String>>,
}

/// Orders tables by what they refer to; by name where that says nothing.
pub fn order(tables: &[Table]) -> Order {
    let mut names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    names.sort_unstable();
    let place: BTreeMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let mut parents = vec![Vec::new(); names.len()];
    for table in tables {
        let own = &mut parents[place[table.name.as_str()]];
        own.extend(table.references.iter().filter_map(|reference| place.get(reference.table.as_str())));
        own.sort_unstable();
        own.dedup();
    }
    let mut order = Order::default();
    for circle in components(&parents) {
        let circle: Vec<String> = circle.into_iter().map(|at| names[at].to_owned()).collect();
        order.tables.extend(circle.iter().cloned());
        if circle.len() > 1 {
            order.cycles.push(circle);
        }
    }
    order
}

/// One node on the way down, and the next of its parents to look at.
struct Step {
    node: usize,
    next: usize,
}

/// The strongly connected components, parents first: Tarjan's algorithm. Without recursion, as a schema may
/// be a chain of thousands of tables.
fn components(parents: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let (mut index, mut low) = (vec![UNSEEN; parents.len()], vec![0; parents.len()]);
    let mut open = vec![false; parents.len()];
    let (mut stack, mut found, mut count) = (Vec::new(), Vec::new(), 0);
    for root in 0..parents.len() {
        let mut path = Vec::new();
        if index[root] == UNSEEN {
            path.push(Step { node: root, next: 0 });
        }
        while let Some(step) = path.last_mut() {
            let node = step.node;
            if step.next == 0 {
                (index[node], low[node]) = (count, count);
                count += 1;
                stack.push(node);
                open[node] = true;
            }
            let next = parents[node].get(step.next).copied();
            step.next += 1;
            match next {
                Some(parent) if index[parent] == UNSEEN => path.push(Step { node: parent, next: 0 }),
                Some(parent) if open[parent] => low[node] = low[node].min(index[parent]),
                Some(_) => {}
                None => {
                    path.pop();
                    if let Some(child) = path.last() {
                        low[child.node] = low[child.node].min(low[node]);
                    }
                    if low[node] == index[node] {
                        let from = stack.iter().rposition(|&other| other == node).unwrap_or(0);
                        let mut circle = stack.split_off(from);
                        for &member in &circle {
                            open[member] = false;
                        }
                        circle.sort_unstable();
                        found.push(circle);
                    }
                }
            }
        }
    }
    found
}
