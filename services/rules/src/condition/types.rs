//! The types of an expression, found before it ever runs.
//!
//! The interpreter finds a misspelt field or a number compared with a text only when it meets one, at three in the
//! morning. Here every part of the tree gets a type from what a rule knows, or the expression is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};

use super::interpreter::Parsed;
use super::{DEPTH_MAX, LOOPS_MAX, Refused};
use crate::diagnostic::nearest;

/// The type of a part of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    /// Yes or no.
    Bool,
    /// A whole number.
    Int,
    /// A text.
    Text,
    /// A list of one type; of any when it is written empty.
    List(Option<Box<Type>>),
    /// Lists of texts by a name that is written out: the columns of a target.
    Columns,
    /// Named fields.
    Object(BTreeMap<String, Type>),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("yes/no"),
            Self::Int => f.write_str("a number"),
            Self::Text => f.write_str("a text"),
            Self::List(Some(of)) => write!(f, "a list of {}", of.to_string().trim_start_matches("a ")),
            Self::List(None) => f.write_str("an empty list"),
            Self::Columns => f.write_str("the columns of a target"),
            Self::Object(_) => f.write_str("a group of fields"),
        }
    }
}

/// What an expression can look at.
pub(crate) fn schema(params: &BTreeSet<String>) -> BTreeMap<String, Type> {
    let texts = || Type::List(Some(Box::new(Type::Text)));
    let object = |fields: &[(&str, Type)]| {
        Type::Object(fields.iter().map(|(name, of)| ((*name).to_string(), of.clone())).collect())
    };
    [
        (
            "cause",
            object(&[
                ("event", Type::Text),
                ("issuer", Type::Text),
                ("signal", Type::Text),
                ("level", Type::Int),
                ("depth", Type::Int),
                ("severity", Type::Text),
                ("urgency", Type::Text),
                ("certainty", Type::Text),
                ("sites", texts()),
                ("places", texts()),
            ]),
        ),
        (
            "target",
            object(&[
                ("key", Type::Text),
                ("name", Type::Text),
                ("sessions_today", Type::Int),
                ("columns", Type::Columns),
            ]),
        ),
        ("session", object(&[("name", Type::Text), ("phase", Type::Text)])),
        (
            "clock",
            object(&[
                ("hour", Type::Int),
                ("minute", Type::Int),
                ("weekday", Type::Int),
                ("date", Type::Text),
                ("free_day", Type::Bool),
            ]),
        ),
        ("params", Type::Object(params.iter().map(|name| (name.clone(), Type::Int)).collect())),
    ]
    .into_iter()
    .map(|(name, of)| (name.to_string(), of))
    .collect()
}

/// What a checked expression looks at.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// The columns of the target.
    pub(super) columns: BTreeSet<String>,
    /// The variables.
    pub(super) about: BTreeSet<String>,
}

/// Gives every part a type, and refuses the first that has none.
pub(super) fn check(parsed: &Parsed, schema: &BTreeMap<String, Type>) -> Result<Checked, Refused> {
    let mut walk = Walk { parsed, scope: schema.clone(), seen: Checked::default() };
    let whole = walk.of(parsed.tree(), 0, 0)?;
    if whole != Type::Bool {
        let message = format!("the whole condition must be yes/no, and is {whole}");
        return Err(walk.refuse(parsed.tree(), "E003", message, Some("compare it with something".into())));
    }
    Ok(walk.seen)
}

struct Walk<'a> {
    parsed: &'a Parsed,
    scope: BTreeMap<String, Type>,
    seen: Checked,
}

type Found = Result<Type, Refused>;

impl Walk<'_> {
    fn refuse(&self, at: &IdedExpr, code: &'static str, message: String, help: Option<String>) -> Refused {
        Refused { code, column: self.parsed.column(at.id), message, help }
    }

    fn of(&mut self, expr: &IdedExpr, depth: usize, loops: usize) -> Found {
        if depth > DEPTH_MAX {
            let message = format!("the expression is nested more than {DEPTH_MAX} deep");
            return Err(self.refuse(expr, "E080", message, Some("split the condition over several rules".into())));
        }
        match &expr.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Ok(Type::Bool),
                LiteralValue::Int(_) => Ok(Type::Int),
                LiteralValue::String(_) => Ok(Type::Text),
                _ => {
                    let help = Some("write whole numbers, texts in quotes, true or false".to_string());
                    Err(self.refuse(expr, "E003", "this kind of value is not used here".into(), help))
                }
            },
            Expr::Ident(name) => self.variable(expr, name),
            Expr::Select(select) => self.field(expr, select, depth, loops),
            Expr::List(list) => {
                let mut of: Option<Type> = None;
                for element in &list.elements {
                    let next = self.of(element, depth + 1, loops)?;
                    match &of {
                        Some(of) if !fits(of, &next) => {
                            let message = format!("a list holds one kind of value; this has {of} and {next}");
                            return Err(self.refuse(element, "E003", message, None));
                        }
                        _ => of = Some(next),
                    }
                }
                Ok(Type::List(of.map(Box::new)))
            }
            Expr::Call(call) => self.call(expr, call, depth, loops),
            Expr::Comprehension(each) => self.each(expr, each, depth, loops),
            Expr::Unspecified | Expr::Map(_) | Expr::Struct(_) => {
                Err(self.refuse(expr, "E003", "maps and messages are not made here".into(), None))
            }
        }
    }

    fn variable(&mut self, at: &IdedExpr, name: &str) -> Found {
        match self.scope.get(name).cloned() {
            Some(of) => {
                self.seen.about.insert(name.into());
                Ok(of)
            }
            None => {
                let known: Vec<&str> = self.scope.keys().map(String::as_str).filter(|n| !n.starts_with('@')).collect();
                let help = meant(name, &known);
                Err(self.refuse(at, "E001", format!("there is nothing called `{name}`"), Some(help)))
            }
        }
    }

    fn field(&mut self, at: &IdedExpr, select: &SelectExpr, depth: usize, loops: usize) -> Found {
        if select.test {
            let help = "every field named here is always there; compare it with '' or 0".to_string();
            return Err(self.refuse(at, "E003", "`has` is not used here".into(), Some(help)));
        }
        let of = self.of(&select.operand, depth + 1, loops)?;
        let whose = match &select.operand.expr {
            Expr::Ident(name) => format!("`{name}`"),
            _ => "this".to_string(),
        };
        match &of {
            Type::Object(fields) => match fields.get(&select.field) {
                Some(of) => Ok(of.clone()),
                None => {
                    let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                    let help = meant(&select.field, &known);
                    let message = format!("{whose} has no field `{}`", select.field);
                    Err(self.refuse(at, "E001", message, Some(help)))
                }
            },
            Type::Columns => {
                self.seen.columns.insert(select.field.clone());
                Ok(Type::List(Some(Box::new(Type::Text))))
            }
            other => {
                let message = format!("{other} has no field `{}`", select.field);
                Err(self.refuse(at, "E003", message, None))
            }
        }
    }

    fn call(&mut self, at: &IdedExpr, call: &CallExpr, depth: usize, loops: usize) -> Found {
        let name = call.func_name.as_str();
        // Only a column that is written out can be given as empty to a target that lacks it.
        if let (operators::INDEX, [base, index]) = (name, call.args.as_slice()) {
            let of = self.of(base, depth + 1, loops)?;
            return match (&of, &index.expr) {
                (Type::Columns, Expr::Literal(LiteralValue::String(column))) => {
                    self.seen.columns.insert(column.inner().to_string());
                    Ok(Type::List(Some(Box::new(Type::Text))))
                }
                (Type::Columns, _) => {
                    let message = "a column is named by a text in quotes".to_string();
                    Err(self.refuse(index, "E003", message, Some("write target.columns['level']".into())))
                }
                _ => {
                    let help = "write `in`, or exists(x, …)".to_string();
                    Err(self.refuse(at, "E003", format!("{of} is not looked up by number or name"), Some(help)))
                }
            };
        }
        let mut of = Vec::new();
        if let Some(target) = &call.target {
            of.push(self.of(target, depth + 1, loops)?);
        }
        for arg in &call.args {
            of.push(self.of(arg, depth + 1, loops)?);
        }
        let says = |what: &str| format!("{what}: {}", of.iter().map(Type::to_string).collect::<Vec<_>>().join(" and "));
        use Type::{Bool, Int, List, Text};
        let found = match (name, call.target.is_some(), of.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, false, [Bool, Bool]) => Bool,
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, false, [Bool]) => Bool,
            (operators::CONDITIONAL, false, [Bool, a, b]) if fits(a, b) => wider(a, b),
            (operators::EQUALS | operators::NOT_EQUALS, false, [a, b]) if fits(a, b) && comparable(a) => Bool,
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                false,
                [Int, Int] | [Text, Text],
            ) => Bool,
            (operators::ADD | operators::SUBSTRACT | operators::MULTIPLY, false, [Int, Int]) => Int,
            (operators::NEGATE, false, [Int]) => Int,
            (operators::ADD, false, [Text, Text]) => Text,
            (operators::ADD, false, [List(a), List(b)]) if list_fits(a, b) => List(a.clone().or_else(|| b.clone())),
            (operators::IN, false, [item, List(of)]) if of.as_ref().is_none_or(|of| fits(item, of)) => Bool,
            ("size", false, [Text | List(_)]) | ("size", true, [Text | List(_)]) => Int,
            ("contains" | "startsWith" | "endsWith", true, [Text, Text]) => Bool,
            _ => return Err(self.unfit(at, name, &of, &says)),
        };
        Ok(found)
    }

    fn unfit(&self, at: &IdedExpr, name: &str, of: &[Type], says: &dyn Fn(&str) -> String) -> Refused {
        const FUNCTIONS: [&str; 9] =
            ["all", "contains", "endsWith", "exists", "exists_one", "filter", "map", "size", "startsWith"];
        let compares = [
            operators::EQUALS,
            operators::NOT_EQUALS,
            operators::LESS,
            operators::LESS_EQUALS,
            operators::GREATER,
            operators::GREATER_EQUALS,
        ];
        match name {
            _ if compares.contains(&name) => {
                let help = match of {
                    [Type::Int, Type::Text] | [Type::Text, Type::Int] => Some("take the quotes off the number".into()),
                    _ => None,
                };
                self.refuse(at, "E003", says("comparing these can never be right"), help)
            }
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => {
                let help = "compare each side with something".to_string();
                self.refuse(at, "E003", says("`&&`, `||` and `!` join yes/no"), Some(help))
            }
            operators::IN => self.refuse(at, "E003", says("`in` looks for one thing in a list of such things"), None),
            operators::CONDITIONAL => self.refuse(at, "E003", says("`a ? b : c` needs yes/no and two of a kind"), None),
            operators::DIVIDE | operators::MODULO => {
                let help = "multiply the other side instead".to_string();
                self.refuse(at, "E003", "numbers are not divided here".into(), Some(help))
            }
            _ if name.starts_with('_') || name.starts_with('-') => {
                self.refuse(at, "E003", says("these cannot be put together"), None)
            }
            _ if FUNCTIONS.contains(&name) => {
                self.refuse(at, "E003", says(&format!("`{name}` is not for these")), None)
            }
            _ => {
                let help = meant(name, &FUNCTIONS);
                self.refuse(at, "E006", format!("there is no function `{name}`"), Some(help))
            }
        }
    }

    /// A loop: `exists`, `all`, `exists_one`, `filter`, `map`, as the parser has written it out.
    fn each(&mut self, at: &IdedExpr, each: &ComprehensionExpr, depth: usize, loops: usize) -> Found {
        if loops >= LOOPS_MAX {
            let message = format!("loops stand {} deep in each other, the limit is {LOOPS_MAX}", loops + 1);
            return Err(self.refuse(at, "E080", message, Some("split the condition over several rules".into())));
        }
        let range = self.of(&each.iter_range, depth + 1, loops)?;
        let (Type::List(of), None) = (&range, &each.iter_var2) else {
            let message = format!("a loop goes over a list, and this is {range}");
            return Err(self.refuse(&each.iter_range, "E003", message, None));
        };
        // An empty list has no element to give a type; a text is as good as any.
        let item = of.as_deref().cloned().unwrap_or(Type::Text);
        let start = self.of(&each.accu_init, depth + 1, loops)?;
        if self.scope.contains_key(&each.iter_var) {
            let message = format!("`{}` already has a meaning", each.iter_var);
            return Err(self.refuse(at, "E003", message, Some("take another letter".into())));
        }
        let outer = self.scope.clone();
        self.scope.insert(each.iter_var.clone(), item);
        self.scope.insert(each.accu_var.clone(), start.clone());
        let walked = self.turns(each, start, depth, loops + 1);
        self.scope = outer;
        self.seen.about.retain(|name| self.scope.contains_key(name));
        walked
    }

    fn turns(&mut self, each: &ComprehensionExpr, start: Type, depth: usize, loops: usize) -> Found {
        self.of(&each.loop_cond, depth + 1, loops)?;
        let step = self.of(&each.loop_step, depth + 1, loops)?;
        if !fits(&start, &step) {
            let message = format!("each turn of the loop gives {step} where {start} is needed");
            return Err(self.refuse(&each.loop_step, "E003", message, None));
        }
        self.scope.insert(each.accu_var.clone(), wider(&start, &step));
        self.of(&each.result, depth + 1, loops)
    }
}

/// Whether two types are one; an empty list is a list of anything.
fn fits(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::List(a), Type::List(b)) => list_fits(a, b),
        _ => a == b,
    }
}

fn list_fits(a: &Option<Box<Type>>, b: &Option<Box<Type>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => fits(a, b),
        _ => true,
    }
}

fn wider(a: &Type, b: &Type) -> Type {
    if *a == Type::List(None) { b.clone() } else { a.clone() }
}

fn comparable(of: &Type) -> bool {
    matches!(of, Type::Bool | Type::Int | Type::Text | Type::List(_))
}

fn meant(word: &str, known: &[&str]) -> String {
    nearest(word, known.iter().copied())
        .map_or_else(|| format!("known are {}", known.join(", ")), |near| format!("did you mean `{near}`?"))
}
