import { render } from "preact";
import { App } from "./app";
import { startCases } from "./cases";
import { startSound } from "./sound";
import { start } from "./store";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import "./frame.css";
import "./pages.css";

start();
startSound();
startCases();
render(<App />, document.getElementById("app")!);
