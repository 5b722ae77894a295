"use strict";(self.rspackChunkcampushub_session=self.rspackChunkcampushub_session||[]).push([[266],{475(e,n,t){var a=t(601),r=t.n(a),o=t(314),i=(t.n(o))()(r());i.push([e.id,`.campushub-Usage {
  display: flex;
  min-width: 0;
  margin-left: auto;
  overflow: hidden;
  align-items: center;
  padding: 0 8px;
}

.campushub-Usage[hidden] {
  display: none;
}

.campushub-Usage button {
  display: flex;
  gap: 12px;
  padding: 2px 8px;
  border: none;
  border-radius: 3px;
  background: none;
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size1);
  font-variant-numeric: tabular-nums;
  white-space: nowrap;
  cursor: pointer;
}

.campushub-Usage button:hover,
.campushub-Usage button:focus-visible {
  background: var(--jp-layout-color2);
}

.campushub-Usage span[data-level='warning'],
.campushub-Usage span[data-level='critical'] {
  padding: 0 6px;
  border-radius: 3px;
  font-weight: 600;
}

/* Read by everybody on these backgrounds, in light and in dark themes. */
.campushub-Usage span[data-level='warning'] {
  background: #ffca28;
  color: #212121;
}

.campushub-Usage span[data-level='critical'] {
  background: #c62828;
  color: #fff;
}

.campushub-Programs {
  min-width: min(480px, 80vw);
  overflow-x: auto;
}

.campushub-Programs table {
  width: 100%;
  border-collapse: collapse;
}

.campushub-Programs thead td {
  color: var(--jp-ui-font-color2);
}

.campushub-Programs td {
  padding: 3px 8px;
}

.campushub-Programs td:nth-child(2),
.campushub-Programs td:nth-child(3),
.campushub-Programs td:nth-child(4) {
  text-align: right;
  white-space: nowrap;
}

.campushub-Programs td:first-child {
  max-width: min(360px, 40vw);
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.campushub-Space td:last-child {
  white-space: normal;
}

.campushub-Space p[role='status']:empty {
  display: none;
}

.campushub-Space p button {
  margin-left: 8px;
}

/* In a corner, where it covers least of the work; over dialogs, which open when the server has gone. */
.campushub-Stack {
  position: fixed;
  right: 0;
  bottom: 24px;
  z-index: 10002;
  display: flex;
  box-sizing: border-box;
  max-width: min(512px, 100vw);
  max-height: calc(100vh - 64px);
  flex-direction: column;
  gap: 8px;
  align-items: end;
  /* With room for shadows, which would be cut off as well. */
  padding: 16px;
  overflow-y: auto;
  pointer-events: none;
}

.campushub-Announcement,
.campushub-End {
  box-sizing: border-box;
  max-width: 100%;
  flex: none;
  background: var(--jp-layout-color1);
  box-shadow: var(--jp-elevation-z6);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size2);
  overflow-wrap: anywhere;
  pointer-events: auto;
  white-space: pre-line;
}

.campushub-Announcement {
  display: flex;
  gap: 12px;
  align-items: start;
  padding: 10px 16px;
  border-left: 4px solid var(--jp-warn-color1);
}

.campushub-Announcement[hidden] {
  display: none;
}

.campushub-Announcement button {
  border: none;
  background: none;
  color: inherit;
  font-size: 20px;
  line-height: 1;
  cursor: pointer;
}

.campushub-End {
  padding: 12px 16px;
  border-left: 4px solid var(--jp-error-color1);
}

.campushub-End p {
  margin: 0 0 8px;
}

.campushub-End p:empty,
.campushub-End[hidden],
.campushub-End button[hidden] {
  display: none;
}

.campushub-End button {
  margin-right: 8px;
}

.campushub-End button.campushub-End-dismiss {
  float: right;
  margin: 0 0 0 12px;
  border: none;
  background: none;
  color: inherit;
  font-size: 20px;
  line-height: 1;
  cursor: pointer;
}
`,""]),t.d(n,{},{A:i})},646(e,n,t){var a=t(601),r=t.n(a),o=t(314),i=t.n(o),s=t(475),u=i()(r());u.i(s.A),u.push([e.id,`
`,""]),t.d(n,{},{A:u})},314(e){e.exports=function(e){var n=[];return n.toString=function(){return this.map(function(n){var t="",a=void 0!==n[5];return n[4]&&(t+="@supports (".concat(n[4],") {")),n[2]&&(t+="@media ".concat(n[2]," {")),a&&(t+="@layer".concat(n[5].length>0?" ".concat(n[5]):""," {")),t+=e(n),a&&(t+="}"),n[2]&&(t+="}"),n[4]&&(t+="}"),t}).join("")},n.i=function(e,t,a,r,o){"string"==typeof e&&(e=[[null,e,void 0]]);var i={};if(a)for(var s=0;s<this.length;s++){var u=this[s][0];null!=u&&(i[u]=!0)}for(var c=0;c<e.length;c++){var p=[].concat(e[c]);a&&i[p[0]]||(void 0!==o&&(void 0===p[5]||(p[1]="@layer".concat(p[5].length>0?" ".concat(p[5]):""," {").concat(p[1],"}")),p[5]=o),t&&(p[2]&&(p[1]="@media ".concat(p[2]," {").concat(p[1],"}")),p[2]=t),r&&(p[4]?(p[1]="@supports (".concat(p[4],") {").concat(p[1],"}"),p[4]=r):p[4]="".concat(r)),n.push(p))}},n}},601(e){e.exports=function(e){return e[1]}},665(e,n,t){t.r(n);var a=t(72),r=t.n(a),o=t(825),i=t.n(o),s=t(659),u=t.n(s),c=t(56),p=t.n(c),d=t(540),l=t.n(d),h=t(113),m=t.n(h),f=t(646),b={};b.styleTagTransform=m(),b.setAttributes=p(),b.insert=u().bind(null,"head"),b.domAPI=i(),b.insertStyleElement=l(),r()(f.A,b);let v=f.A&&f.A.locals?f.A.locals:void 0;t.d(n,{},{default:v})},72(e){var n=[];function t(e){for(var t=-1,a=0;a<n.length;a++)if(n[a].identifier===e){t=a;break}return t}function a(e,a){for(var r={},o=[],i=0;i<e.length;i++){var s=e[i],u=a.base?s[0]+a.base:s[0],c=r[u]||0,p="".concat(u," ").concat(c);r[u]=c+1;var d=t(p),l={css:s[1],media:s[2],sourceMap:s[3],supports:s[4],layer:s[5]};if(-1!==d)n[d].references++,n[d].updater(l);else{var h=function(e,n){var t=n.domAPI(n);return t.update(e),function(n){n?(n.css!==e.css||n.media!==e.media||n.sourceMap!==e.sourceMap||n.supports!==e.supports||n.layer!==e.layer)&&t.update(e=n):t.remove()}}(l,a);a.byIndex=i,n.splice(i,0,{identifier:p,updater:h,references:1})}o.push(p)}return o}e.exports=function(e,r){var o=a(e=e||[],r=r||{});return function(e){e=e||[];for(var i=0;i<o.length;i++){var s=t(o[i]);n[s].references--}for(var u=a(e,r),c=0;c<o.length;c++){var p=t(o[c]);0===n[p].references&&(n[p].updater(),n.splice(p,1))}o=u}}},659(e){var n={};e.exports=function(e,t){var a=function(e){if(void 0===n[e]){var t=document.querySelector(e);if(window.HTMLIFrameElement&&t instanceof window.HTMLIFrameElement)try{t=t.contentDocument.head}catch(e){t=null}n[e]=t}return n[e]}(e);if(!a)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");a.appendChild(t)}},540(e){e.exports=function(e){var n=document.createElement("style");return e.setAttributes(n,e.attributes),e.insert(n,e.options),n}},56(e,n,t){e.exports=function(e){var n=t.nc;n&&e.setAttribute("nonce",n)}},825(e){e.exports=function(e){if("u"<typeof document)return{update:function(){},remove:function(){}};var n=e.insertStyleElement(e);return{update:function(t){var a,r,o;a="",t.supports&&(a+="@supports (".concat(t.supports,") {")),t.media&&(a+="@media ".concat(t.media," {")),(r=void 0!==t.layer)&&(a+="@layer".concat(t.layer.length>0?" ".concat(t.layer):""," {")),a+=t.css,r&&(a+="}"),t.media&&(a+="}"),t.supports&&(a+="}"),(o=t.sourceMap)&&"u">typeof btoa&&(a+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(o))))," */")),e.styleTagTransform(a,n,e.options)},remove:function(){var e;null===(e=n).parentNode||e.parentNode.removeChild(e)}}}},113(e){e.exports=function(e,n){if(n.styleSheet)n.styleSheet.cssText=e;else{for(;n.firstChild;)n.removeChild(n.firstChild);n.appendChild(document.createTextNode(e))}}}}]);