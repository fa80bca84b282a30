package harness

import org.codehaus.groovy.ast.ASTNode
import org.codehaus.groovy.ast.expr.BinaryExpression
import org.codehaus.groovy.ast.expr.ClosureExpression
import org.codehaus.groovy.ast.expr.ConstantExpression
import org.codehaus.groovy.ast.expr.Expression
import org.codehaus.groovy.ast.expr.GStringExpression
import org.codehaus.groovy.ast.expr.MapExpression
import org.codehaus.groovy.ast.expr.MethodCallExpression
import org.codehaus.groovy.ast.expr.TupleExpression
import org.codehaus.groovy.ast.expr.VariableExpression
import org.codehaus.groovy.ast.stmt.BlockStatement
import org.codehaus.groovy.ast.stmt.ExpressionStatement
import org.codehaus.groovy.ast.stmt.Statement

/** Refuses, without running it, what Declarative's validator refuses and Groovy itself takes. */
class Validator {
    private static final List<String> PIPELINE = ['agent', 'environment', 'libraries', 'options', 'parameters', 'post', 'stages', 'tools', 'triggers']
    private static final List<String> STAGE = ['agent', 'environment', 'failFast', 'input', 'matrix', 'options', 'parallel',
                                               'post', 'stages', 'steps', 'tools', 'when']
    private static final List<String> BODIES = ['steps', 'stages', 'parallel', 'matrix']
    private static final List<String> POST = ['aborted', 'always', 'changed', 'cleanup', 'failure', 'fixed', 'notBuilt',
                                              'regression', 'success', 'unstable', 'unsuccessful']
    private static final List<String> WHEN = ['allOf', 'anyOf', 'branch', 'buildingTag', 'changelog', 'changeset', 'changeRequest',
                                              'environment', 'expression', 'isRestartedRun', 'not', 'tag', 'triggeredBy',
                                              'whenEquals'] // 'equals', renamed by Source
    private static final List<String> WRAPPERS = ['ansiColor', 'lock', 'retry', 'timeout', 'timestamps', 'withChecks']
    private static final List<String> STAGE_OPTIONS = WRAPPERS + ['skipDefaultCheckout', 'checkoutToSubdirectory']
    private static final List<String> OPTIONS = STAGE_OPTIONS + [
        'buildDiscarder', 'disableConcurrentBuilds', 'disableRestartFromStage', 'disableResume', 'durabilityHint',
        'newContainerPerStage', 'overrideIndexTriggers', 'parallelsAlwaysFailFast', 'preserveStashes', 'quietPeriod',
        'rateLimitBuilds', 'skipStagesAfterUnstable']
    private static final List<String> PARAMETERS = ['booleanParam', 'choice', 'credentials', 'file', 'password', 'run', 'string', 'text']
    private static final List<String> INPUT = ['id', 'message', 'ok', 'parameters', 'submitter', 'submitterParameter']
    final List<String> errors = []
    private final List<MethodCallExpression> options = []

    /** Errors, each with its line; none when the file validates on a controller with these plugins. */
    List<String> on(Set<String> plugins) {
        errors + options.findAll { !Plugins.brings(plugins, it.methodAsString) }.collect {
            "line ${it.lineNumber}: option '${it.methodAsString}' needs the plugin ${Plugins.OF[it.methodAsString]}, which is not installed".toString()
        }
    }

    /** Walks the tree as it is before Groovy rewrites it. */
    void check(BlockStatement file) {
        def pipelines = file.statements.findAll { callOf(it)?.methodAsString == 'pipeline' }
        if (pipelines.size() != 1) { error(file, "expected one 'pipeline' block, found ${pipelines.size()}") }
        pipelines.each { pipeline(it) }
    }

    private void error(ASTNode node, String text) { errors << "line ${node.lineNumber}: ${text}".toString() }

    /** The call of a statement if it is one of `name …` and nothing else. */
    private static MethodCallExpression callOf(Statement statement) {
        def expression = statement instanceof ExpressionStatement ? statement.expression : null
        expression instanceof MethodCallExpression && expression.method instanceof ConstantExpression ? expression : null
    }

    private static List<Expression> arguments(MethodCallExpression call) {
        call.arguments instanceof TupleExpression ? call.arguments.expressions : [call.arguments]
    }

    private static ClosureExpression body(MethodCallExpression call) {
        def given = arguments(call)
        given && given.last() instanceof ClosureExpression ? given.last() : null
    }

    private static List<Statement> statements(ClosureExpression closure) {
        closure.code instanceof BlockStatement ? closure.code.statements : [closure.code]
    }

    /** The calls of a block. `a {…} b {…}` on one line is, to Groovy, a call of b on what a returned. */
    private List<MethodCallExpression> calls(MethodCallExpression of, String what) {
        def closure = body(of)
        if (closure == null) {
            error(of, "expected a block for '${of.methodAsString}'")
            return []
        }
        statements(closure).collect { statement ->
            def found = callOf(statement)
            if (found == null) {
                error(statement, "expected ${what} in '${of.methodAsString}'")
            } else if (!found.implicitThis) {
                error(statement, "two items on one line in '${of.methodAsString}': '${found.methodAsString}' needs a line, or a ';' before it")
                found = null
            }
            found
        }.findAll { it != null }
    }

    private List<MethodCallExpression> known(MethodCallExpression of, String what, List<String> names, boolean once) {
        def seen = [] as Set
        calls(of, what).findAll { found ->
            def name = found.methodAsString
            if (!(name in names)) { error(found, "unknown ${what} '${name}' in '${of.methodAsString}'") }
            if (once && !seen.add(name)) { error(found, "more than one '${name}' in '${of.methodAsString}'") }
            name in names
        }
    }

    private void pipeline(Statement statement) {
        def sections = known(callOf(statement), 'section', PIPELINE, true)
        ['agent', 'stages'].each { name ->
            if (!sections.any { it.methodAsString == name }) { error(statement, "missing section '${name}' in 'pipeline'") }
        }
        sections.each { section(it, OPTIONS, false) }
    }

    private void section(MethodCallExpression section, List<String> allowed, boolean inParallel) {
        switch (section.methodAsString) {
            case 'agent': agent(section); break
            case 'environment': environment(section); break
            case 'options': plain(known(section, 'option', allowed, true)); break
            case 'parameters': nonEmpty(section, known(section, 'parameter', PARAMETERS, false)); break
            case 'post': nonEmpty(section, known(section, 'condition', POST, true)).each { steps(it) }; break
            case 'stages': stages(section, inParallel); break
            case 'parallel': stages(section, true); break
            case 'steps': steps(section); break
            case 'when': conditions(section, WHEN + When.FLAGS); break
            case 'input': input(section); break
        }
    }

    private void plain(List<MethodCallExpression> found) {
        options.addAll(found)
        found.each { option ->
            if (body(option) != null) { error(option, "option '${option.methodAsString}' cannot have a block") }
        }
    }

    private List<MethodCallExpression> nonEmpty(MethodCallExpression section, List<MethodCallExpression> found) {
        if (!found) { error(section, "'${section.methodAsString}' is empty") }
        found
    }

    private void agent(MethodCallExpression section) {
        if (body(section) != null) {
            if (calls(section, 'an agent').size() != 1) { error(section, "'agent' takes exactly one kind of agent") }
            return
        }
        def given = arguments(section)
        def name = given.size() == 1 ? given[0].text : null
        if (!(name in ['any', 'none'])) { error(section, "'agent' is any, none or a block") }
    }

    private void environment(MethodCallExpression section) {
        def seen = [] as Set
        if (body(section) == null) {
            error(section, "expected a block for 'environment'")
            return
        }
        nonEmpty(section, statements(body(section)).collect { statement ->
            def assignment = statement instanceof ExpressionStatement ? statement.expression : null
            if (!(assignment instanceof BinaryExpression && assignment.operation.text == '=' && assignment.leftExpression instanceof VariableExpression)) {
                error(statement, "expected NAME = value in 'environment'")
                return statement
            }
            if (!seen.add(assignment.leftExpression.name)) { error(statement, "'${assignment.leftExpression.name}' is assigned twice in 'environment'") }
            if (!constant(assignment.rightExpression) && !(assignment.rightExpression instanceof MethodCallExpression)) {
                error(statement, "the value of '${assignment.leftExpression.name}' must be a string or a function call")
            }
            statement
        } as List)
    }

    private static boolean constant(Expression value) {
        value instanceof ConstantExpression || value instanceof GStringExpression ||
            value instanceof BinaryExpression && value.operation.text == '+' && constant(value.leftExpression) && constant(value.rightExpression)
    }

    private void stages(MethodCallExpression section, boolean inParallel) {
        def names = [] as Set
        nonEmpty(section, known(section, 'stage', ['stage'], false)).each { found ->
            def name = arguments(found)[0]
            if (!(name instanceof ConstantExpression)) { error(found, 'the name of a stage must be a string') }
            if (!names.add(name.text)) { error(found, "more than one stage '${name.text}'") }
            stage(found, name.text, inParallel)
        }
    }

    private void stage(MethodCallExpression found, String name, boolean inParallel) {
        def sections = known(found, 'section', STAGE, true)
        def bodies = sections*.methodAsString.findAll { it in BODIES }
        if (bodies.size() != 1) { error(found, "stage '${name}' needs exactly one of steps, stages, parallel, matrix; it has ${bodies}") }
        if ('parallel' in bodies) {
            if (inParallel) { error(found, "stage '${name}': parallel stages cannot be nested") }
            ['agent', 'tools'].each { forbidden ->
                if (forbidden in sections*.methodAsString) { error(found, "stage '${name}': '${forbidden}' is not allowed beside 'parallel'") }
            }
        }
        sections.each { section(it, STAGE_OPTIONS, inParallel) }
    }

    private void conditions(MethodCallExpression section, List<String> names) {
        def found = nonEmpty(section, known(section, 'condition', names, false))
        found.findAll { it.methodAsString in When.FLAGS }.each { flag ->
            if (!(arguments(flag)[0] instanceof ConstantExpression && arguments(flag)[0].value instanceof Boolean)) {
                error(flag, "'${flag.methodAsString}' takes true or false")
            }
        }
        def real = found.findAll { !(it.methodAsString in When.FLAGS) }
        if (found && !real) { error(section, "'${section.methodAsString}' has no condition") }
        if (section.methodAsString == 'not' && real.size() > 1) { error(section, "'not' takes one condition") }
        real.findAll { it.methodAsString in ['allOf', 'anyOf', 'not'] }.each { conditions(it, WHEN) }
        real.findAll { it.methodAsString == 'expression' && body(it) == null }.each { error(it, "'expression' needs a block") }
    }

    private void input(MethodCallExpression section) {
        if (body(section) == null) {
            error(section, "expected a block for 'input'")
            return
        }
        def fields = known(section, 'field', INPUT, true)
        if (!fields.any { it.methodAsString == 'message' }) { error(section, "'input' needs a message") }
        fields.findAll { arguments(it).size() != 1 }.each { error(it, "'${it.methodAsString}' takes one value") }
        fields.findAll { it.methodAsString == 'parameters' }.each { known(it, 'parameter', PARAMETERS, false) }
    }

    private void steps(MethodCallExpression section) {
        nonEmpty(section, calls(section, 'a step')).each { step ->
            if (step.methodAsString == 'script') {
                if (body(step) == null) { error(step, "'script' needs a block") }
            } else if (body(step) != null) {
                steps(step)
            } else if (step.methodAsString == 'parallel' && arguments(step).any { it instanceof MapExpression }) {
                error(step, "'parallel' with named branches belongs into a script block or a stage")
            }
        }
    }
}
