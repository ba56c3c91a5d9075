// The networks at work, beside the page (a Web Worker), so that the page never waits for them. Panel X's questions are
// answered by answers/X.js: what is under "look" at once, what is under "ask" once the reader has let its network load:
// "network" is the name of that, or a function of what is given with the question.
// Answers come in the order of the questions.

import {begin, load, replace} from "./network.js";
import {forget, open} from "./picture.js";

let before = Promise.resolve();

onmessage = async ({data: {id, panel, question, given}}) => {
    if (question === "begin") return begin();
    const reply = async work => {
        try {
            postMessage({id, answer: await work()});
        } catch (error) {
            postMessage({id, error: error.message || String(error)});
        }
    };
    if (question === "open") return before = before.then(() => reply(() => open(given)));
    if (question === "replace")
        return before = before.then(() => reply(() => replace(given.name, given.file).finally(forget)));
    const answers = await import(`./answers/${panel}.js`);
    if (answers.ask?.[question])
        try {
            const {network} = answers;
            await load(typeof network === "function" ? network(given) : network);
        } catch (error) {
            return reply(() => { throw error; });
        }
    before = before.then(() => reply(() => (answers.ask?.[question] ?? answers.look[question])(given)));
};
