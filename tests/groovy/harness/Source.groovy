package harness

import org.codehaus.groovy.ast.ClassNode
import org.codehaus.groovy.ast.CodeVisitorSupport
import org.codehaus.groovy.ast.expr.ConstantExpression
import org.codehaus.groovy.ast.expr.ConstructorCallExpression
import org.codehaus.groovy.ast.expr.Expression
import org.codehaus.groovy.ast.expr.GStringExpression
import org.codehaus.groovy.ast.expr.MapExpression
import org.codehaus.groovy.ast.expr.MethodCallExpression
import org.codehaus.groovy.ast.expr.TupleExpression
import org.codehaus.groovy.classgen.GeneratorContext
import org.codehaus.groovy.control.CompilePhase
import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.SourceUnit
import org.codehaus.groovy.control.customizers.CompilationCustomizer

/** One Jenkinsfile: its class to run, its tree to check. */
class Source {
    final String text
    final Class<JenkinsScript> type
    private final Validator validator = new Validator()
    private boolean checked = false
    /** Every `sh` of the file: line, and whether its text is a literal. */
    final List<Map> shells = []
    /** Names that a sandbox refuses or that escape the model. */
    final List<String> forbidden = []

    Source(String text) {
        this.text = text
        def configuration = new CompilerConfiguration(scriptBaseClass: JenkinsScript.name)
        configuration.addCompilationCustomizers(new Customizer(this))
        type = new GroovyClassLoader(getClass().classLoader, configuration).parseClass(text, 'Jenkinsfile.groovy')
    }

    List<String> errors(Set<String> plugins) { validator.on(plugins) }

    /** Sees the tree before anything is resolved. */
    private static class Customizer extends CompilationCustomizer {
        final Source source

        Customizer(Source source) {
            super(CompilePhase.CONVERSION)
            this.source = source
        }

        void call(SourceUnit unit, GeneratorContext context, ClassNode node) {
            if (source.checked) { return }
            source.checked = true
            def visitor = new Visitor(source: source)
            unit.AST.statementBlock.visit(visitor)
            unit.AST.methods.each { it.code?.visit(visitor) }
            source.validator.check(unit.AST.statementBlock)
            node.methods.each { it.code?.visit(visitor) }
        }
    }

    private static class Visitor extends CodeVisitorSupport {
        // Groovy would take these for methods of every object.
        private static final Map<String, String> RENAMED = [equals: 'whenEquals', sleep: 'sleepStep', print: 'echoStep', println: 'echoStep']
        private static final List<String> METHODS = ['execute', 'evaluate', 'getRawBuild']
        Source source
        private final Set<Integer> seen = []

        void visitMethodCallExpression(MethodCallExpression call) {
            super.visitMethodCallExpression(call)
            if (!seen.add(System.identityHashCode(call))) { return }
            def name = call.methodAsString
            if (call.implicitThis && name in RENAMED.keySet()) { call.method = new ConstantExpression(RENAMED[name]) }
            if (name in METHODS) { source.forbidden << "line ${call.lineNumber}: ${name}()".toString() }
            if (name in ['sh', 'bat', 'powershell', 'pwsh'] && call.implicitThis) {
                def given = script(call)
                source.shells << [line: call.lineNumber, step: name, text: given?.text,
                                  literal: given instanceof ConstantExpression && given.value instanceof String]
            }
        }

        void visitConstructorCallExpression(ConstructorCallExpression call) {
            super.visitConstructorCallExpression(call)
            source.forbidden << "line ${call.lineNumber}: new ${call.type.name}".toString()
        }

        private static Expression script(MethodCallExpression call) {
            def given = call.arguments instanceof TupleExpression ? call.arguments.expressions : [call.arguments]
            def first = given ? given[0] : null
            first instanceof MapExpression ? first.mapEntryExpressions.find { it.keyExpression.text == 'script' }?.valueExpression : first
        }
    }
}
