//! The Common Expression Language, read and evaluated by the `cel` crate.

use std::collections::HashMap;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};
use cel::{Context, Program, Value};

use super::{Answer, Datum, Facts, Predicate, Refused};

/// A compiled expression and its parts that must all hold.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) program: Program,
    pub(super) source: String,
}

/// Compiles a text that has been measured.
pub(super) fn parse(source: &str) -> Result<Parsed, Refused> {
    match Program::compile(source) {
        Ok(program) => Ok(Parsed { program, source: source.into() }),
        Err(errors) => {
            let first = errors.errors.first();
            let column = first.map_or(0, |error| usize::try_from(error.pos.1).unwrap_or(0));
            let message = first.map_or_else(|| "it does not parse".to_string(), |error| plain(&error.msg));
            let help = Some("write for example cause.level >= 3 && target.sessions_today > 0".to_string());
            Err(Refused { code: "E080", column, message: format!("the expression does not parse: {message}"), help })
        }
    }
}

/// The first line of a message of the parser, in lower case at its start.
fn plain(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim_end_matches('.');
    line.trim_start_matches("Syntax error: ").to_string()
}

impl Parsed {
    pub(super) fn tree(&self) -> &IdedExpr {
        self.program.expression()
    }

    /// The column, from 1, that a part of the tree begins at; 0 when the parser did not keep it.
    pub(super) fn column(&self, id: u64) -> usize {
        let start = self.program.source_info().offset_for(id).map(|(start, _)| start as usize);
        start.map_or(0, |start| start + 1)
    }

    fn value(&self, part: &IdedExpr, context: &Context<'_, '_>) -> Result<bool, String> {
        match context.resolve(part) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("the condition is {:?}, not yes or no", other.type_of())),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Predicate for Parsed {
    fn decide(&self, facts: &Facts) -> Result<Answer, String> {
        let mut context = Context::default();
        for (name, datum) in facts {
            context.add_variable_from_value(*name, value(datum));
        }
        if self.value(self.tree(), &context)? {
            return Ok(Answer::Holds);
        }
        let mut parts = Vec::new();
        conjuncts(self.tree(), &mut parts);
        let first = parts.into_iter().find(|part| self.value(part, &context) == Ok(false));
        Ok(Answer::Stops(first.and_then(shown).unwrap_or_else(|| self.source.clone())))
    }
}

fn value(datum: &Datum) -> Value {
    match datum {
        Datum::Bool(yes) => Value::Bool(*yes),
        Datum::Int(number) => Value::Int(*number),
        Datum::Text(text) => Value::from(text.as_str()),
        Datum::List(items) => Value::from(items.iter().map(value).collect::<Vec<Value>>()),
        Datum::Map(fields) => {
            Value::from(fields.iter().map(|(name, datum)| (name.clone(), value(datum))).collect::<HashMap<_, _>>())
        }
    }
}

/// The parts that are joined by `&&`, from the left.
fn conjuncts<'a>(expr: &'a IdedExpr, into: &mut Vec<&'a IdedExpr>) {
    match &expr.expr {
        Expr::Call(call) if call.func_name == operators::LOGICAL_AND => {
            call.args.iter().for_each(|part| conjuncts(part, into));
        }
        _ => into.push(expr),
    }
}

/// A part of the tree as text; `None` for a loop, which the parser has rewritten.
fn shown(expr: &IdedExpr) -> Option<String> {
    Some(match &expr.expr {
        Expr::Ident(name) => name.clone(),
        Expr::Select(select) if select.test => format!("has({}.{})", shown(&select.operand)?, select.field),
        Expr::Select(select) => format!("{}.{}", shown(&select.operand)?, select.field),
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(yes) => yes.inner().to_string(),
            LiteralValue::Int(number) => number.inner().to_string(),
            LiteralValue::String(text) => format!("'{}'", text.inner()),
            _ => return None,
        },
        Expr::List(list) => {
            let items: Option<Vec<String>> = list.elements.iter().map(shown).collect();
            format!("[{}]", items?.join(", "))
        }
        Expr::Call(call) => {
            let args: Vec<String> = call.args.iter().map(shown).collect::<Option<_>>()?;
            match (call.func_name.as_str(), args.as_slice(), &call.target) {
                (operators::CONDITIONAL, [a, b, c], None) => format!("({a} ? {b} : {c})"),
                (operators::INDEX, [a, b], None) => format!("{a}[{b}]"),
                (operators::IN, [a, b], None) => format!("{a} in {b}"),
                (operators::LOGICAL_NOT, [a], None) => format!("!({a})"),
                (operators::NEGATE, [a], None) => format!("-{a}"),
                (operators::LOGICAL_OR, [a, b], None) => format!("({a} || {b})"),
                (operators::LOGICAL_AND, [a, b], None) => format!("({a} && {b})"),
                (name, [a, b], None) if name.starts_with('_') => format!("{a} {} {b}", name.trim_matches('_')),
                (name, args, None) => format!("{name}({})", args.join(", ")),
                (name, args, Some(target)) => format!("{}.{name}({})", shown(target)?, args.join(", ")),
            }
        }
        Expr::Unspecified | Expr::Comprehension(_) | Expr::Map(_) | Expr::Struct(_) => return None,
    })
}
