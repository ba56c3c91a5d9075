// A service worker: it keeps a copy of what the page loads, and gives that where there is no connection.

addEventListener("install", () => skipWaiting());
addEventListener("activate", event => event.waitUntil(clients.claim()));
addEventListener("fetch", event => {
    if (event.request.method !== "GET") return;
    event.respondWith((async () => {
        const kept = await caches.open("lab");
        try {
            const answer = await fetch(event.request);
            if (answer.ok) event.waitUntil(kept.put(event.request, answer.clone()));
            return answer;
        } catch (error) {
            const copy = await kept.match(event.request, {ignoreSearch: true, ignoreVary: true});
            if (copy) return copy;
            throw error;
        }
    })());
});
